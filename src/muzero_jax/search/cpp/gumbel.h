// The rules of Gumbel MuZero, each for a block of nodes at once.
#pragma once

#include "rules.h"

namespace muzero {

// Gumbel MuZero (Danihelka et al. 2022): search/gumbel.py defines what is computed here.
struct Gumbel {
  float value_scale, maxvisit_init, min_range;
  const int32_t* considered;  // [max_num_considered + 1, num_columns]
  int max_num_considered, num_columns;

  static constexpr bool always_decides = true;
  static int first_word(const Layout&) { return 0; }
  static int num_words(const Layout& at) { return at.value; }

  // Completed Q-values of a block, which are added to its logits.
  struct Completed {
    Lanes* qvalues;
    Lanes low, inverse_range, scale, num_visits;

    Completed(const Gumbel& rule, const Layout& at, Block& block) {
      const int num_actions = at.num_actions;
      const Lanes *visits = block[at.visits], *probs = block[at.probs];
      qvalues = block[at.qvalues];
      Lanes mean = {}, most = {}, visited_prob = {};
      num_visits = Lanes{};
      for (int a = 0; a < num_actions; a++) {
        num_visits += visits[a];
        most = larger(most, visits[a]);
        visited_prob += visits[a] > 0.0f ? probs[a] : Lanes{};
      }
      for (int a = 0; a < num_actions; a++) {
        mean += visits[a] > 0.0f ? probs[a] * qvalues[a] / visited_prob : Lanes{};
      }
      Lanes mixed = fused(num_visits, mean, *block[at.raw]) / (num_visits + 1.0f);
      Lanes high = all(-INF);
      low = all(INF);
      for (int a = 0; a < num_actions; a++) {
        qvalues[a] = visits[a] > 0.0f ? qvalues[a] : mixed;
        low = smaller(low, qvalues[a]);
        high = larger(high, qvalues[a]);
      }
      Lanes range = high - low;
      inverse_range = 1.0f / (range > rule.min_range ? range : all(rule.min_range));
      scale = (rule.maxvisit_init + most) * rule.value_scale;
    }
    Lanes raise(Lanes logit, int action) const {
      return fused((qvalues[action] - low) * inverse_range, scale, logit);
    }
  };

  Integers decide_unvisited(const Lanes* probs, const Layout& at) const {
    Best best;
    for (int a = 0; a < at.num_actions; a++) best.offer(probs[a], a);
    return best.action;
  }

  Integers decide(Block& block, const Layout& at) const {
    const int num_actions = at.num_actions;
    Completed completed(*this, at, block);
    Lanes* logits = block[0];
    for (int a = 0; a < num_actions; a++) logits[a] = completed.raise(logits[a], a);
    Lanes share = 1.0f / exponentials(logits, logits, num_actions);
    Lanes visit_share = 1.0f / (completed.num_visits + 1.0f);
    Best best;
    for (int a = 0; a < num_actions; a++) {
      Lanes visited = block[at.visits][a] * visit_share;
      best.offer(fused(logits[a], share, -visited), a);
    }
    return best.action;
  }

  // Sequential halving among the actions that Gumbel noise drew.
  Integers decide_roots(Block& block, const Layout& at, RootFacts facts) const {
    const int num_actions = at.num_actions;
    Completed completed(*this, at, block);
    const Lanes* logits = block[0];
    Lanes top = all(-INF);
    Integers num_valid = {};
    for (int a = 0; a < num_actions; a++) {
      top = larger(top, logits[a]);
      num_valid += facts.invalid[a] == 0 ? all(1) : all(0);
    }
    const Lanes considered = considered_visits(num_valid, completed.num_visits, block.size());
    Best best;
    for (int a = 0; a < num_actions; a++) {
      // The floor keeps an action of hopeless score ahead of the actions that are not considered.
      Lanes score = completed.raise(facts.gumbel[a] + (logits[a] - top), a);
      score = larger(all(-1e9f), score);
      score = block[at.visits][a] == considered ? score : all(-INF);
      best.offer(facts.invalid[a] == 0 ? score : all(-INF), a);
    }
    return best.action;
  }

 private:
  // The visits that an action must have to be tried next.
  Lanes considered_visits(Integers num_valid, Lanes num_visits, int size) const {
    Lanes result = {};
    for (int i = 0; i < size; i++) {
      const int row = num_valid[i] < max_num_considered ? num_valid[i] : max_num_considered;
      // The last simulation finds the leaf of a simulation that does not follow.
      const int simulation = static_cast<int>(num_visits[i]);
      const int column = simulation < num_columns ? simulation : num_columns - 1;
      result[i] = static_cast<float>(considered[row * num_columns + column]);
    }
    return result;
  }
};

}  // namespace muzero
