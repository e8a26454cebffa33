// One simulation of a few trees: backs the values of the new nodes up, and finds the next leaves.
#pragma once

#include "rules.h"
#include "threefry.h"

namespace muzero {

// Where a simulation leaves a tree, and what its random numbers are made from.
struct Leaf {
  int32_t parent, action, child, depth;
  Key key;      // the key that mctx would have for the whole batch in this simulation
  int32_t row;  // the tree's row in that batch
};

// A batch of trees, and the new nodes that a simulation adds to it.
struct Batch {
  int32_t* records;                                 // [B, N + 1, words]
  Leaf* leaves;                                     // [B]
  const float *logits, *value, *reward, *discount;  // [B, A] and [B], the new nodes
  const float* gumbel;                              // [B, A], or null for PUCT
  const int32_t* invalid;                           // [B, A], nonzero at the roots
  int32_t max_depth;
  int num_rows, num_nodes;
  Layout at;

  Tree tree(int row) const {
    const size_t stride = at.words;
    return {records + row * num_nodes * stride, stride};
  }
};

template <class Rule>
class Simulation {
 public:
  // `scratch` has room for `num_scratch` vectors.
  Simulation(const Batch& batch, const Rule& rule, Lanes* scratch)
      : batch_(batch),
        rule_(rule),
        at_(batch.at),
        block_(scratch, Rule::first_word(at_), Rule::num_words(at_)) {}

  static int num_scratch(const Layout& at) { return Rule::num_words(at) + 2 * at.num_actions; }

  // Simulates all rows from `begin` until `end`.
  void simulate(int begin, int end) {
    for (int row = begin; row < end; row += LANES) {
      int stop = row + LANES < end ? row + LANES : end;
      add(row, stop);
      backward(row, stop);
      choose_at_roots(row, stop);
      descend(row, stop);
    }
  }

 private:
  Leaf& leaf(int row) { return batch_.leaves[row]; }

  // The number of the new node. The root's visits count the nodes, unless the depth limit led to an
  // old leaf.
  int32_t number(int row) {
    int32_t child = leaf(row).child;
    return child > 0 ? child : static_cast<int32_t>(batch_.tree(row)[0].numbers()[at_.count]);
  }

  // Fetches rows of an array `[B, A]`.
  void load_rows(Lanes* columns, const float* numbers, int row, int stop) {
    const float* rows[LANES] = {};
    for (int r = row; r < stop; r++)
      rows[r - row] = numbers + static_cast<size_t>(r) * at_.num_actions;
    load_columns(columns, rows, stop - row, at_.num_actions);
  }

  // Stores the new nodes of up to LANES rows.
  void add(int row, int stop) {
    float* probs_of[LANES];
    for (int r = row; r < stop; r++) {
      leaf(r).child = number(r);
      Node& node = batch_.tree(r)[leaf(r).child];
      node.prefetch(at_);
      block_.enter(node);
      probs_of[r - row] = node.numbers() + at_.probs;
    }
    const int num_actions = at_.num_actions;
    Lanes *logits = block_.extra(), *probs = logits + num_actions;
    load_rows(logits, batch_.logits, row, stop);
    softmax(probs, logits, num_actions);
    store_columns(probs_of, probs, stop - row, num_actions);
    for (int r = row; r < stop; r++) add_rest(r);
    block_.decide(rule_.decide_unvisited(probs, at_), at_);
  }

  // Stores all of a new node but its probabilities and its choice.
  void add_rest(int row) {
    Leaf& from = leaf(row);
    Node& node = batch_.tree(row)[from.child];
    float* numbers = node.numbers();
    const size_t num_actions = at_.num_actions;
    std::memcpy(numbers, batch_.logits + row * num_actions, num_actions * sizeof(float));
    numbers[at_.raw] = numbers[at_.value] = batch_.value[row];
    if (numbers[at_.count] == 0.0f)
      std::memset(node.children(at_), 0xff, num_actions * sizeof(int32_t));  // NOBODY
    numbers[at_.count] += 1.0f;
    if (from.child == 0) {
      node.head.parent = node.head.action = NOBODY;
      return;
    }
    if (!Rule::always_decides) from.key = from.key.split(0);
    node.head.parent = from.parent;
    node.head.action = from.action;
    node.head.reward = batch_.reward[row];
    node.head.discount = batch_.discount[row];
  }

  // A tree on the way up from its new node to its root.
  struct Climber {
    Tree tree;
    Node* node;
    float value, target;

    bool done() const { return node->head.parent < 0; }
    Node& parent() const { return tree[node->head.parent]; }
  };

  // Takes the values of the new nodes of up to LANES rows into the means of all nodes above them.
  // All rows go up together, so that the next node of one row is fetched from memory while the
  // nodes of the other rows are worked on.
  void backward(int row, int stop) {
    Climber climbers[LANES];
    int num_climbing = 0;
    for (int r = row; r < stop; r++) {
      Tree tree = batch_.tree(r);
      Climber climber{tree, &tree[leaf(r).child], batch_.value[r], batch_.value[r]};
      if (climber.done()) continue;
      climber.parent().children(at_)[climber.node->head.action] = leaf(r).child;
      climbers[num_climbing++] = climber;
    }
    while (num_climbing > 0) {
      int num_left = 0;
      for (int i = 0; i < num_climbing; i++) {
        Climber& climber = climbers[i];
        step_up(climber);
        if (climber.done()) continue;
        climber.parent().prefetch(at_);
        block_.enter(*climber.node);
        if (block_.full()) settle();
        climbers[num_left++] = climber;
      }
      num_climbing = num_left;
    }
    if (!block_.empty()) settle();
  }

  void step_up(Climber& climber) {
    const Head edge = climber.node->head;
    Node& node = climber.parent();
    float* numbers = node.numbers();
    float *qvalues = numbers + at_.qvalues, *visits = numbers + at_.visits;
    qvalues[edge.action] = fused(edge.discount, climber.value, edge.reward);
    visits[edge.action] += 1.0f;
    climber.target = fused(edge.discount, climber.target, edge.reward);
    float count = numbers[at_.count];
    climber.value = fused(numbers[at_.value], count, climber.target) / (count + 1.0f);
    numbers[at_.value] = climber.value;
    numbers[at_.count] = count + 1.0f;
    climber.node = &node;
  }

  void settle() {
    block_.load();
    block_.decide(rule_.decide(block_, at_), at_);
  }

  void choose_at_roots(int row, int stop) {
    for (int r = row; r < stop; r++) block_.enter(batch_.tree(r)[0]);
    block_.load();
    Lanes *gumbel = block_.extra(), *invalid = gumbel + at_.num_actions;
    if (batch_.gumbel) load_rows(gumbel, batch_.gumbel, row, stop);
    load_rows(invalid, reinterpret_cast<const float*>(batch_.invalid), row, stop);
    RootFacts facts{gumbel, reinterpret_cast<Integers*>(invalid)};
    block_.decide(rule_.decide_roots(block_, at_, facts), at_);
  }

  // A simulation on its way down.
  struct Descent {
    Tree tree;
    int row;
    Key key;         // the key after `num_splits` splits
    int num_splits;  // mctx splits the key once at every node
  };

  // Follows the choices to actions that lead to no node yet; the rows go down together.
  void descend(int row, int stop) {
    Descent descents[LANES];
    int num_descending = 0;
    for (int r = row; r < stop; r++) {
      Leaf& to = leaf(r);
      to.child = to.depth = 0;
      // mctx splits the key in three, and splits the second part for all rows.
      Key key = Rule::always_decides ? Key{} : to.key.split(1).split(to.row);
      descents[num_descending++] = {batch_.tree(r), r, key, 0};
    }
    while (num_descending > 0) {
      int num_left = 0;
      for (int i = 0; i < num_descending; i++) {
        Leaf& to = leaf(descents[i].row);
        step_down(descents[i], to);
        if (to.child >= 0 && to.depth < batch_.max_depth) descents[num_left++] = descents[i];
      }
      num_descending = num_left;
    }
  }

  void step_down(Descent& descent, Leaf& to) {
    Node& node = descent.tree[to.child];
    to.parent = to.child;
    to.action = node.head.choice;
    to.child = node.head.next;
    if constexpr (!Rule::always_decides) {
      if (to.action == UNDECIDED) {
        for (; descent.num_splits < to.depth; descent.num_splits++)
          descent.key = descent.key.split(0);
        const int32_t* invalid = batch_.invalid + descent.row * at_.num_actions;
        to.action = rule_.decide_by_chance(node, at_, descent.key.split(1),
                                           to.depth == 0 ? invalid : nullptr);
        to.child = node.children(at_)[to.action];
      }
    }
    to.depth++;
  }

  const Batch& batch_;
  const Rule& rule_;
  const Layout& at_;
  Block block_;
};

}  // namespace muzero
