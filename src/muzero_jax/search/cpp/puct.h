// MuZero's PUCT rule, for a block of nodes at once.
#pragma once

#include "rules.h"
#include "threefry.h"

namespace muzero {

// Schrittwieser et al. 2020, appendix B, equation 2, with Q-values scaled by the values of the node
// and its children: search/puct.py defines what is computed here.
struct Puct {
  // Weight of the prior by the node's visits: [2, num_weights]. `decide_by_chance` reads the second
  // row, which is rounded as in mctx.
  const float* weights;
  int num_weights;

  static constexpr bool always_decides = false;
  static constexpr float NOISE = 1e-7f;  // by which mctx breaks ties
  static int first_word(const Layout& at) { return at.probs; }
  static int num_words(const Layout& at) { return at.children - at.probs; }

  // A block's best action, or UNDECIDED where noise could make it another.
  struct ClearlyBest {
    Best best;
    Lanes second = all(-INF);

    void offer(Lanes score, int32_t action) {
      second = larger(second, smaller(best.score, score));
      best.offer(score, action);
    }
    Integers action() const {
      // mctx's own sum may round differently by a few units in the last place.
      Lanes size = larger(best.score, -best.score);
      Lanes margin = NOISE + 8 * std::numeric_limits<float>::epsilon() * size;
      return best.score - second > margin ? best.action : all(UNDECIDED);
    }
  };

  Integers decide_unvisited(const Lanes* probs, const Layout& at) const {
    ClearlyBest best;
    for (int a = 0; a < at.num_actions; a++) best.offer(weights[1] * probs[a], a);
    return best.action();
  }

  Integers decide(Block& block, const Layout& at) const {
    return decide_allowed(block, at, [](int) { return all(-1); });
  }
  Integers decide_roots(Block& block, const Layout& at, RootFacts facts) const {
    return decide_allowed(block, at, [=](int action) { return facts.invalid[action] == 0; });
  }

  // The action that mctx's rule draws at one node; `invalid` is null below the root.
  int32_t decide_by_chance(Node& node, const Layout& at, Key key, const int32_t* invalid) const {
    const float* numbers = node.numbers();
    const float *visits = numbers + at.visits, *qvalues = numbers + at.qvalues;
    const float value = numbers[at.value];
    float low = value, high = value;
    for (int a = 0; a < at.num_actions; a++) {
      if (visits[a] == 0.0f) continue;
      low = qvalues[a] < low ? qvalues[a] : low;
      high = qvalues[a] > high ? qvalues[a] : high;
    }
    const float inverse_range = 1.0f / (high - low > MIN_RANGE ? high - low : MIN_RANGE);
    const float weight = weights[num_weights + static_cast<int>(numbers[at.count])];
    float best = -INF;
    int32_t action = 0;
    for (int a = 0; a < at.num_actions; a++) {
      if (invalid && invalid[a]) continue;
      float raised = visits[a] > 0.0f ? qvalues[a] - low : 0.0f;
      float score = weight * numbers[at.probs + a] / (visits[a] + 1.0f);
      score = fused(NOISE, key.uniform(a), fused(raised, inverse_range, score));
      if (score > best) best = score, action = a;
    }
    return action;
  }

 private:
  static constexpr float MIN_RANGE = 1e-8f;

  // `allowed(a)` is false in the lanes in which an action may not be taken.
  template <class Allowed>
  Integers decide_allowed(Block& block, const Layout& at, Allowed allowed) const {
    const Lanes *visits = block[at.visits], *qvalues = block[at.qvalues];
    const Lanes *probs = block[at.probs], counts = *block[at.count];
    Lanes low = *block[at.value], high = low, weight = {};
    for (int i = 0; i < block.size(); i++) weight[i] = weights[static_cast<int>(counts[i])];
    for (int a = 0; a < at.num_actions; a++) {
      Lanes known = visits[a] > 0.0f ? qvalues[a] : low;
      low = smaller(low, known);
      high = larger(high, visits[a] > 0.0f ? qvalues[a] : high);
    }
    Lanes range = high - low;
    Lanes inverse_range = 1.0f / (range > MIN_RANGE ? range : all(MIN_RANGE));
    ClearlyBest best;
    for (int a = 0; a < at.num_actions; a++) {
      Lanes raised = visits[a] > 0.0f ? (qvalues[a] - low) * inverse_range : Lanes{};
      Lanes score = raised + weight * probs[a] / (visits[a] + 1.0f);
      best.offer(allowed(a) ? score : all(-INF), a);
    }
    return best.action();
  }
};

}  // namespace muzero
