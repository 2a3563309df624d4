// Level "avx512": 512-bit vectors; needs AVX-512 F, BW, DQ and VL (any server part since 2017).
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#endif

namespace vd::avx512 {

struct Vec {
  using F = __m512;
  static constexpr int kLanes = 16;

  static F set1(float x) { return _mm512_set1_ps(x); }

  static F load(const float* x) { return _mm512_loadu_ps(x); }
  static F load(const BFloat16* x) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static F load(const Float16* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  }

  // Two vectors of consecutive entries, in any order. A 32-bit word holds two bfloat16.
  template <class Elem>
  static void load_pair(const Elem* x, F& a, F& b) {
    a = load(x);
    b = load(x + kLanes);
  }
  static void load_pair(const BFloat16* x, F& a, F& b) {
    const __m512i words = _mm512_loadu_si512(x);
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    a = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    b = _mm512_castsi512_ps(_mm512_and_si512(words, high));
  }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }  // b where one is NaN
  static F min(F a, F b) { return _mm512_min_ps(a, b); }

  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static void store(float* x, F a) { _mm512_store_ps(x, a); }

  static F add_exponent(F p, F shifted) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), n));
  }
  static F zero_unless_above(F e, F d, F low) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(d, low, _CMP_GT_OQ), e);
  }

  static F where_below(F x, F bound, F other) {
    return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, bound, _CMP_LT_OQ), other);
  }
  // Lanes of which the number, at least, is below `bar` times the weight: see class_draw.inc.h.
  static unsigned less_mask(const uint32_t* bits, const float* weight, float bar) {
    const F number = _mm512_cvtepi32_ps(_mm512_load_si512(bits));
    const F least = _mm512_mul_ps(_mm512_sub_ps(set1(8388607.5f), number), set1(0x1p-23f));
    return _mm512_cmp_ps_mask(least, _mm512_mul_ps(load(weight), set1(bar)), _CMP_LT_OQ);
  }

  static unsigned equal_mask(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static F replace_lanes(F a, unsigned mask, float value) {
    return _mm512_mask_mov_ps(a, static_cast<__mmask16>(mask), set1(value));
  }
  static float reduce_max(F a) { return _mm512_reduce_max_ps(a); }
  static float reduce_add(F a) { return _mm512_reduce_add_ps(a); }
};

#include "row_scan.inc.h"

#include "class_draw.inc.h"

}  // namespace vd::avx512

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
