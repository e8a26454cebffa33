// Types and functions that both rules use (gumbel.h, puct.h).
#pragma once

#include "tree.h"

namespace muzero {

// What a rule at the roots may read beside the nodes; a column an action.
struct RootFacts {
  const Lanes* gumbel;      // not set for PUCT
  const Integers* invalid;  // nonzero where the action may not be taken
};

// Computes a softmax before it is divided by its sum, and returns the sum; `results` may be
// `logits`.
inline Lanes exponentials(Lanes* results, const Lanes* logits, int num_actions) {
  Lanes top = all(-INF), total = {};
  for (int a = 0; a < num_actions; a++) top = larger(top, logits[a]);
  for (int a = 0; a < num_actions; a++) total += results[a] = exp(logits[a] - top);
  return total;
}

// Computes prior probabilities from logits; they are at least the smallest normal number.
inline void softmax(Lanes* probs, const Lanes* logits, int num_actions) {
  Lanes inverse = 1.0f / exponentials(probs, logits, num_actions);
  for (int a = 0; a < num_actions; a++) probs[a] = larger(probs[a] * inverse, all(TINY));
}

}  // namespace muzero
