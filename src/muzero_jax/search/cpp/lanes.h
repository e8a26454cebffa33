// Numbers side by side, which one instruction computes with.
//
// The arithmetic equals that of XLA's CPU backend to the last bit, so that a search takes the same
// decisions with and without this kernel: sums go from the first action to the last, a product is
// fused with the sum it goes into where the processor can, and `exp` is the same polynomial.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace muzero {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

constexpr float INF = std::numeric_limits<float>::infinity();
constexpr float TINY = std::numeric_limits<float>::min();

inline Lanes all(float x) { return x - Lanes{}; }
inline Integers all(int32_t x) { return x - Integers{}; }

// a * b + c.
inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
inline Lanes fused(Lanes a, Lanes b, Lanes c) {
  Lanes result;
  for (int i = 0; i < LANES; i++) result[i] = fused(a[i], b[i], c[i]);
  return result;
}

inline Lanes larger(Lanes a, Lanes b) { return b > a ? b : a; }
inline Lanes smaller(Lanes a, Lanes b) { return b < a ? b : a; }

inline Lanes floor(Lanes x) {
  Lanes result;
  for (int i = 0; i < LANES; i++) result[i] = __builtin_floorf(x[i]);
  return result;
}

// The exponential of numbers that are not positive. After Cephes: 2^n times a polynomial.
inline Lanes exp(Lanes x) {
  x = larger(x, all(-88.0f));  // NaN stays NaN
  Lanes n = floor(fused(x, all(1.44269504088896341f), all(0.5f)));
  n = larger(all(-127.0f), n);
  x = fused(-n, all(0.693359375f), x);
  x = fused(-n, all(-2.12194440e-4f), x);
  Lanes y = fused(x, all(1.9875691500e-4f), all(1.3981999507e-3f));
  y = fused(y, x, all(8.3334519073e-3f));
  y = fused(y, x, all(4.1665795894e-2f));
  y = fused(y, x, all(1.6666665459e-1f));
  y = fused(y, x, all(0.5f));
  y = fused(x * x, y, x) + 1.0f;
  return y * (Lanes)((__builtin_convertvector(n, Integers) + 127) << 23);
}

// The first of the greatest numbers, found one after another.
struct Best {
  Lanes score = all(-INF);
  Integers action = {};

  void offer(Lanes other, int32_t number) {
    Integers better = other > score;
    score = better ? other : score;
    action = better ? all(number) : action;
  }
};

}  // namespace muzero
