// The keys and numbers of `jax.random` with its default generator (threefry2x32, partitionable).
#pragma once

#include <cstdint>
#include <cstring>

namespace muzero {

struct Key {
  uint32_t words[2];

  // Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": 20 rounds of Threefry.
  Key hash(uint32_t number) const {
    constexpr int ROTATIONS[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t schedule[3] = {words[0], words[1], words[0] ^ words[1] ^ 0x1BD11BDAu};
    uint32_t x = schedule[0], y = number + schedule[1];
    for (uint32_t i = 0; i < 5; i++) {
      for (int rotation : ROTATIONS[i % 2]) {
        x += y;
        y = (y << rotation | y >> (32 - rotation)) ^ x;
      }
      x += schedule[(i + 1) % 3];
      y += schedule[(i + 2) % 3] + i + 1;
    }
    return {{x, y}};
  }
  // `jax.random.split(key, n)[number]`, for any n.
  Key split(uint32_t number) const { return hash(number); }

  // `jax.random.uniform(key, (n,))[number]`, for any n.
  float uniform(uint32_t number) const {
    Key bits = hash(number);
    uint32_t word = (bits.words[0] ^ bits.words[1]) >> 9 | 0x3f800000u;
    float result;
    std::memcpy(&result, &word, sizeof result);
    return result - 1.0f;
  }
};

}  // namespace muzero
