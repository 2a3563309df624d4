// Sums and maxima of one row of logits by class of token.
// Equal, up to the order of sums, to vllm_diffusion/structured/class_stats.py, which defines it.
//
// The row is read twice: once for the two largest entries of each class, once for its sums. A class
// has several accumulators, so that an addition need not wait for the one before it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace vd {

// One row: `size` float32 entries, and the class of each, below C. Results are (C).
struct ClassRow {
  const float* logits;
  const int32_t* cls;
  int64_t size, excluded, C;
};

struct ClassOut {
  double* sum;       // log of the probabilities' sum
  double* weighted;  // sum of p log p
  float* first;      // log-probability of the most probable token
  float* second;     // and of its runner-up
  int64_t* token;    // the most probable token, -1 for none
};

constexpr int kCopies = 4;
constexpr int kPart = 1024;

// exp(d) for d <= 0 in float32; 0 below -87. The relative error is below 2e-7: see row_scan.inc.h.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2,fma", "default")))
#endif
inline void exp_part(const float* x, int size, float reference, float* d_out, float* e_out) {
  for (int i = 0; i < size; ++i) {
    const float raw = x[i] - reference;
    const float d = raw > -87.0f ? raw : -87.0f;
    const float shifted = d * 1.44269504f + 12582912.0f;
    const float r = d * 1.44269504f - (shifted - 12582912.0f);
    float p = 1.326472731e-3f;
    p = p * r + 9.671512991e-3f;
    p = p * r + 5.550733581e-2f;
    p = p * r + 2.402224243e-1f;
    p = p * r + 6.931470037e-1f;
    p = p * r + 1.0f;
    int32_t bits, n;
    std::memcpy(&bits, &p, 4);
    std::memcpy(&n, &shifted, 4);
    bits += static_cast<int32_t>(static_cast<uint32_t>(n) << 23);
    float e;
    std::memcpy(&e, &bits, 4);
    d_out[i] = d;
    e_out[i] = raw > -87.0f ? e : 0.0f;
  }
}

inline void class_stats(const ClassRow& in, const ClassOut& out) {
  const float never = -std::numeric_limits<float>::infinity();
  std::fill(out.first, out.first + in.C, never);
  std::fill(out.second, out.second + in.C, never);
  std::fill(out.token, out.token + in.C, -1);
  for (int64_t v = 0; v < in.size; ++v) {
    const float x = in.logits[v];
    const int32_t c = in.cls[v];
    if (x > out.second[c] && v != in.excluded) {
      if (x > out.first[c]) {
        out.second[c] = out.first[c];
        out.first[c] = x;
        out.token[c] = v;
      } else {
        out.second[c] = x;
      }
    }
  }
  const float top = *std::max_element(out.first, out.first + in.C);
  const float reference = top == never ? 0.0f : top;
  std::vector<double> sums(2 * kCopies * in.C, 0.0);
  alignas(64) float d[kPart], e[kPart];
  for (int64_t begin = 0; begin < in.size; begin += kPart) {
    const int size = static_cast<int>(std::min<int64_t>(kPart, in.size - begin));
    exp_part(in.logits + begin, size, reference, d, e);
    if (in.excluded >= begin && in.excluded < begin + size) e[in.excluded - begin] = 0.0f;
    for (int i = 0; i < size; ++i) {
      double* const here = &sums[2 * (in.cls[begin + i] * kCopies + (i & (kCopies - 1)))];
      here[0] += e[i];
      here[1] += e[i] * d[i];
    }
  }
  double total = 0.0;
  for (int64_t c = 0; c < in.C; ++c) {
    double sum = 0.0, weighted = 0.0;
    for (int copy = 0; copy < kCopies; ++copy) {
      sum += sums[2 * (c * kCopies + copy)];
      weighted += sums[2 * (c * kCopies + copy) + 1];
    }
    out.sum[c] = sum;
    out.weighted[c] = weighted;
    total += sum;
  }
  const double lse = std::log(total);
  for (int64_t c = 0; c < in.C; ++c) {
    // sum of p log p, p = e / total: (weighted - sum lse) / total.
    out.weighted[c] = (out.weighted[c] - out.sum[c] * lse) / total;
    out.sum[c] = out.sum[c] > 0.0 ? std::log(out.sum[c]) - lse : -std::numeric_limits<double>::infinity();
    const float shift = reference + static_cast<float>(lse);
    if (out.first[c] != never) out.first[c] -= shift;
    if (out.second[c] != never) out.second[c] -= shift;
  }
}

}  // namespace vd
