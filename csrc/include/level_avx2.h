// Level "avx2": 256-bit vectors; needs AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "draw_state.h"
#include "row_state.h"
#include "scan_fn.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace vd::avx2 {

struct Vec {
  using F = __m256;
  static constexpr int kLanes = 8;

  static F set1(float x) { return _mm256_set1_ps(x); }

  static F load(const float* x) { return _mm256_loadu_ps(x); }
  static F load(const BFloat16* x) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static F load(const Float16* x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }

  // Two vectors of consecutive entries, in any order. A 32-bit word holds two bfloat16.
  template <class Elem>
  static void load_pair(const Elem* x, F& a, F& b) {
    a = load(x);
    b = load(x + kLanes);
  }
  static void load_pair(const BFloat16* x, F& a, F& b) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    a = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    b = _mm256_castsi256_ps(_mm256_and_si256(words, high));
  }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }  // b where one is NaN
  static F min(F a, F b) { return _mm256_min_ps(a, b); }

  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static void store(float* x, F a) { _mm256_store_ps(x, a); }

  static F add_exponent(F p, F shifted) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
  }
  static F zero_unless_above(F e, F d, F low) {
    return _mm256_and_ps(e, _mm256_cmp_ps(d, low, _CMP_GT_OQ));
  }

  static F where_below(F x, F bound, F other) {
    return _mm256_blendv_ps(x, other, _mm256_cmp_ps(x, bound, _CMP_LT_OQ));
  }
  // Lanes of which the number, at least, is below `bar` times the weight: see class_draw.inc.h.
  static unsigned less_mask(const uint32_t* bits, const float* weight, float bar) {
    const __m256i whole = _mm256_load_si256(reinterpret_cast<const __m256i*>(bits));
    const F least =
        _mm256_mul_ps(_mm256_sub_ps(set1(8388607.5f), _mm256_cvtepi32_ps(whole)), set1(0x1p-23f));
    const F most = _mm256_mul_ps(load(weight), set1(bar));
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(least, most, _CMP_LT_OQ)));
  }

  static unsigned equal_mask(F a, F b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
  }
  static F replace_lanes(F a, unsigned mask, float value) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bit);
    const __m256i is_chosen = _mm256_cmpeq_epi32(chosen, bit);
    return _mm256_blendv_ps(a, set1(value), _mm256_castsi256_ps(is_chosen));
  }
  static float reduce_max(F a) {
    __m128 v = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
  }
  static float reduce_add(F a) {
    __m128 v = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
  }
};

#include "row_scan.inc.h"

#include "class_draw.inc.h"

}  // namespace vd::avx2

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
