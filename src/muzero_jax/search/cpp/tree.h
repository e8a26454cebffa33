// The nodes of a tree, and blocks of nodes side by side.
#pragma once

#include <cstddef>
#include <cstring>

#include "columns.h"

namespace muzero {

constexpr int32_t NOBODY = -1;
constexpr int32_t UNDECIDED = -2;  // a random number must decide

// A node is a record of 32-bit words: this head, then, for A actions each,
//
//   prior logits | raw value | prior probabilities | Q-values | visits | value | visit count |
//   children
//
// Counts are floats, which hold them exactly up to 2^24. Python reads the words by the same order
// (search/cpp_trees.py).
struct Head {
  int32_t parent, action;  // the parent, and its action that leads here
  int32_t choice, next;    // the action chosen next, and the child that the action leads to
  float reward, discount;  // on the edge that leads here
};
constexpr int HEAD_WORDS = sizeof(Head) / 4;

// Where the parts of a record lie, counted from the first word after the head.
struct Layout {
  int num_actions;
  int raw, probs, qvalues, visits, value, count, children, words;

  explicit Layout(int a)
      : num_actions(a),
        raw(a),
        probs(a + 1),
        qvalues(2 * a + 1),
        visits(3 * a + 1),
        value(4 * a + 1),
        count(4 * a + 2),
        children(4 * a + 3),
        words((HEAD_WORDS + 5 * a + 3 + 15) / 16 * 16) {}
};

struct Node {
  Head head;

  float* numbers() { return reinterpret_cast<float*>(this + 1); }
  int32_t* children(const Layout& at) {
    return reinterpret_cast<int32_t*>(numbers() + at.children);
  }
  void prefetch(const Layout& at) const {
    const char* bytes = reinterpret_cast<const char*>(this);
    for (int i = 0; i < at.words * 4; i += 64) __builtin_prefetch(bytes + i, 1);
  }
  void choose(int32_t action, const Layout& at) {
    head.choice = action;
    head.next = action >= 0 ? children(at)[action] : NOBODY;
  }
};

struct Tree {
  int32_t* words;
  size_t words_per_node;

  Node& operator[](int32_t node) const {
    return *reinterpret_cast<Node*>(words + node * words_per_node);
  }
};

// Up to LANES nodes, and a column of numbers for each word that a rule reads.
class Block {
 public:
  // `scratch` has room for `num_words` vectors, and for the vectors of `extra` after them.
  Block(Lanes* scratch, int first_word, int num_words)
      : columns_(scratch), first_(first_word), words_(num_words) {}

  void enter(Node& node) { nodes_[size_++] = &node; }
  bool full() const { return size_ == LANES; }
  bool empty() const { return size_ == 0; }
  int size() const { return size_; }

  // Copies the numbers of all nodes into the columns.
  void load() {
    const float* rows[LANES];
    for (int i = 0; i < size_; i++) rows[i] = nodes_[i]->numbers() + first_;
    load_columns(columns_, rows, size_, words_);
  }
  // The column of a word of the layout.
  Lanes* operator[](int word) { return columns_ + (word - first_); }
  // Columns for other uses, after those of the nodes.
  Lanes* extra() { return columns_ + words_; }

  // Stores the choices of all nodes, and removes the nodes from the block.
  void decide(Integers choices, const Layout& at) {
    alignas(sizeof choices) int32_t actions[LANES];
    std::memcpy(actions, &choices, sizeof choices);
    for (int i = 0; i < size_; i++) nodes_[i]->choose(actions[i], at);
    size_ = 0;
  }

 private:
  Lanes* columns_;
  int first_, words_, size_ = 0;
  Node* nodes_[LANES];
};

}  // namespace muzero
