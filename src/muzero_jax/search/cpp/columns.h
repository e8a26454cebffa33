// Rows of memory to columns of lanes and back.
#pragma once

#include <cstring>
#include <utility>

#include "lanes.h"

namespace muzero {

// The lane that `swap_blocks` copies to lane `lane` of its first vector; lanes are numbered through
// both vectors.
constexpr int upper_source(int lane, int width) {
  return lane & width ? lane - width + LANES : lane;
}

// Swaps the blocks off the diagonal of a square of numbers; the blocks are `width` wide.
template <int width, size_t... lane>
inline void swap_blocks(Lanes& upper, Lanes& lower, std::index_sequence<lane...>) {
  const Lanes a = upper, b = lower;
  upper = __builtin_shufflevector(a, b, upper_source(lane, width)...);
  lower = __builtin_shufflevector(a, b, (lane & width ? lane + LANES : lane + width)...);
}

template <int width>
inline void transpose(Lanes* square) {
  for (int i = 0; i < LANES; i++)
    if (!(i & width))
      swap_blocks<width>(square[i], square[i + width], std::make_index_sequence<LANES>());
  if constexpr (width > 1) transpose<width / 2>(square);
}

// `columns[i][lane] = rows[lane][i]` for `num_words` words of `num_rows` rows; other lanes are 0.
inline void load_columns(Lanes* columns, const float* const* rows, int num_rows, int num_words) {
  float* flat = reinterpret_cast<float*>(columns);
  if (num_words < LANES) {
    if (num_rows < LANES) std::memset(flat, 0, sizeof(Lanes) * num_words);
    for (int lane = 0; lane < num_rows; lane++)
      for (int i = 0; i < num_words; i++) flat[i * LANES + lane] = rows[lane][i];
    return;
  }
  for (int done = 0; done < num_words; done += LANES) {
    // The last square overlaps the one before it.
    const int start = done + LANES <= num_words ? done : num_words - LANES;
    Lanes square[LANES] = {};
    for (int lane = 0; lane < num_rows; lane++)
      std::memcpy(&square[lane], rows[lane] + start, sizeof(Lanes));
    transpose<LANES / 2>(square);
    std::memcpy(columns + start, square, sizeof square);
  }
}

// `rows[lane][i] = columns[i][lane]`.
inline void store_columns(float* const* rows, const Lanes* columns, int num_rows, int num_words) {
  const float* flat = reinterpret_cast<const float*>(columns);
  if (num_words < LANES) {
    for (int lane = 0; lane < num_rows; lane++)
      for (int i = 0; i < num_words; i++) rows[lane][i] = flat[i * LANES + lane];
    return;
  }
  for (int done = 0; done < num_words; done += LANES) {
    const int start = done + LANES <= num_words ? done : num_words - LANES;
    Lanes square[LANES];
    std::memcpy(square, columns + start, sizeof square);
    transpose<LANES / 2>(square);
    for (int lane = 0; lane < num_rows; lane++)
      std::memcpy(rows[lane] + start, &square[lane], sizeof(Lanes));
  }
}

}  // namespace muzero
