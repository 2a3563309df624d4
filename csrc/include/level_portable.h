// Level "portable": 128-bit compiler vectors, for any processor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "draw_state.h"
#include "row_state.h"
#include "scan_fn.h"

namespace vd::portable {

struct Vec {
  using F = float __attribute__((vector_size(16)));
  using U = uint32_t __attribute__((vector_size(16)));
  static constexpr int kLanes = 4;

  static F set1(float x) { return F{x, x, x, x}; }

  static F load(const float* x) {
    F v;
    std::memcpy(&v, x, sizeof v);
    return v;
  }
  static F load(const BFloat16* x) {
    return F{to_float(x[0]), to_float(x[1]), to_float(x[2]), to_float(x[3])};
  }
  static F load(const Float16* x) {
    return F{to_float(x[0]), to_float(x[1]), to_float(x[2]), to_float(x[3])};
  }

  // Two vectors of consecutive entries, in any order. A 32-bit word holds two bfloat16.
  template <class Elem>
  static void load_pair(const Elem* x, F& a, F& b) {
    a = load(x);
    b = load(x + kLanes);
  }
  static void load_pair(const BFloat16* x, F& a, F& b) {
    U words;
    std::memcpy(&words, x, sizeof words);
    a = (F)(words << 16);
    b = (F)(words & 0xffff0000u);
  }

  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F max(F a, F b) { return a > b ? a : b; }  // b where one is NaN
  static F min(F a, F b) { return a < b ? a : b; }

  static F div(F a, F b) { return a / b; }
  static void store(float* x, F a) { std::memcpy(x, &a, sizeof a); }

  static F add_exponent(F p, F shifted) { return (F)((U)p + ((U)shifted << 23)); }
  static F zero_unless_above(F e, F d, F low) { return (F)((U)e & (U)(d > low)); }

  static F where_below(F x, F bound, F other) { return x < bound ? other : x; }
  // Lanes of which the number, at least, is below `bar` times the weight: see class_draw.inc.h.
  static unsigned less_mask(const uint32_t* bits, const float* weight, float bar) {
    unsigned mask = 0;
    for (int k = 0; k < kLanes; ++k) {
      const float least = (8388607.5f - static_cast<float>(bits[k])) * 0x1p-23f;
      mask |= static_cast<unsigned>(least < weight[k] * bar) << k;
    }
    return mask;
  }

  static unsigned equal_mask(F a, F b) {
    const U equal = (U)(a == b);
    unsigned mask = 0;
    for (int k = 0; k < kLanes; ++k) mask |= (equal[k] & 1) << k;
    return mask;
  }
  static F replace_lanes(F a, unsigned mask, float value) {
    for (int k = 0; k < kLanes; ++k) a[k] = (mask >> k & 1u) != 0 ? value : a[k];
    return a;
  }
  static float reduce_max(F a) {
    const float low = a[0] > a[1] ? a[0] : a[1];
    const float high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
  }
  static float reduce_add(F a) { return (a[0] + a[1]) + (a[2] + a[3]); }
};

#include "row_scan.inc.h"

#include "class_draw.inc.h"

}  // namespace vd::portable
