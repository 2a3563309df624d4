// Sums, maxima and draws of one row of logits by class of token.
// Equal, up to the order of sums, to vllm_diffusion/structured/class_stats.py and class_draws.py,
// which define them.
//
// A row is gathered class after class, in parts that row_scan.inc.h and class_draw.inc.h read: no
// vector holds tokens of two classes, so nothing is scattered.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "row_stats.h"

namespace vd {

// The classes of a vocabulary's tokens, `count` of them. Field for field the array of
// vllm_diffusion/structured/token_classes.py.
struct TokenClasses {
  const int32_t* order;   // (columns), tokens by class, ascending in each
  const int64_t* border;  // (count + 1), where each class begins in `order`
  int64_t count;
};

// Fills `order` and `border`.
inline void order_classes(const int32_t* cls, int64_t columns, int64_t count, int32_t* order,
                          int64_t* border) {
  std::fill(border, border + count + 1, 0);
  for (int64_t v = 0; v < columns; ++v) ++border[cls[v] + 1];
  for (int64_t c = 0; c < count; ++c) border[c + 1] += border[c];
  std::vector<int64_t> next(border, border + count);
  for (int64_t v = 0; v < columns; ++v) order[next[cls[v]]++] = static_cast<int32_t>(v);
}

struct ClassOut {
  double* sum;       // log of the probabilities' sum
  double* weighted;  // sum of p log p
  float* first;      // log-probability of the most probable token
  float* second;     // and of its runner-up
  int64_t* token;    // the most probable token, -1 for none
};

inline constexpr int64_t kGathered = 4096;

// What row_scan.inc.h makes of the tokens of one class of a row, which are gathered part by part.
template <class Elem>
RowState scan_class(const Elem* x, const TokenClasses& of, int64_t c, int64_t exclude,
                    ScanFn scan) {
  alignas(64) Elem part[kGathered];
  RowState state;
  for (int64_t begin = of.border[c]; begin < of.border[c + 1]; begin += kGathered) {
    const int32_t* const token = of.order + begin;
    const int64_t size = std::min(kGathered, of.border[c + 1] - begin);
    for (int64_t i = 0; i < size; ++i) part[i] = x[token[i]];
    if (exclude >= token[0] && exclude <= token[size - 1]) {
      const int32_t* const at = std::lower_bound(token, token + size, exclude);
      if (*at == exclude) part[at - token] = minus_infinity<Elem>();
    }
    RowState next;
    scan(part, 0, size, -1, next);
    next.index += begin;
    state.join(next);
  }
  return state;
}

// Results are (C), of which the classes that this row does not have are empty.
template <class Elem>
void class_stats(const void* row, int64_t exclude, const TokenClasses& of, int64_t C, ScanFn scan,
                 const ClassOut& out) {
  const Elem* const x = static_cast<const Elem*>(row);
  std::vector<RowState> states(C);
  float top = -kInf;
  bool is_irregular = false;
  for (int64_t c = 0; c < of.count; ++c) {
    RowState& state = states[c];
    state = scan_class(x, of, c, exclude, scan);
    is_irregular |= state.is_irregular;
    top = std::max(top, state.first);
  }
  double total = 0.0;
  for (const RowState& state : states) {
    if (state.sum > 0.0) total += state.sum * std::exp(double{state.first} - double{top});
  }
  constexpr double none = -std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const double lse = is_irregular ? nan : top + std::log(total);
  for (int64_t c = 0; c < C; ++c) {
    const RowState& state = states[c];
    const bool is_empty = state.sum == 0.0 && !is_irregular;
    // With q = exp(x - first) and s = first - lse, p is q exp(s): sum of p log p is
    // exp(s) (sum of q log q + s sum of q).
    const double shift = state.first - lse;
    out.sum[c] = is_empty ? none : shift + std::log(state.sum);
    out.weighted[c] = is_empty ? 0.0 : std::exp(shift) * (state.weighted + shift * state.sum);
    out.first[c] = is_empty ? -kInf : static_cast<float>(shift);
    out.second[c] = state.second == -kInf && !is_irregular
                        ? -kInf
                        : static_cast<float>(state.second - lse);
    out.token[c] = is_empty || is_irregular ? -1 : of.order[state.index];
  }
}

inline void class_stats(Dtype dtype, const void* row, int64_t exclude, const TokenClasses& of,
                        int64_t C, Level level, const ClassOut& out) {
  const ScanFn scan = scan_for(level, dtype);
  switch (dtype) {
    case Dtype::kFloat32: return class_stats<float>(row, exclude, of, C, scan, out);
    case Dtype::kBFloat16: return class_stats<BFloat16>(row, exclude, of, C, scan, out);
    case Dtype::kFloat16: return class_stats<Float16>(row, exclude, of, C, scan, out);
  }
}

inline DrawFn draw_for(Level level, Dtype dtype) {
  const int d = static_cast<int>(dtype);
#if defined(__x86_64__)
  if (level == Level::kAvx512) return avx512::kDraws[d];
  if (level == Level::kAvx2) return avx2::kDraws[d];
#endif
  (void)level;
  return portable::kDraws[d];
}

// Results are (C).
inline void class_draws(const void* row, int64_t exclude, const TokenClasses& of, int64_t C,
                        const DrawRow& how, DrawFn draw, double* total, double* value,
                        int64_t* token) {
  for (int64_t c = 0; c < C; ++c) {
    DrawState state;
    if (c < of.count && of.border[c] < of.border[c + 1]) {
      draw(row, of.order + of.border[c], of.border[c + 1] - of.border[c], exclude, how, state);
    }
    total[c] = state.total;
    value[c] = state.value;
    token[c] = state.token;
  }
}

}  // namespace vd
