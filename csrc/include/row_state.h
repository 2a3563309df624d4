// What is known about a part of a row, how two parts join, and the statistics of the whole.
//
// With m the largest logit of the part, the sums are
//   sum      = sum_i exp(x_i - m)
//   weighted = sum_i (x_i - m) exp(x_i - m)        (every term <= 0)
// so entropy = log(sum) - weighted / sum adds two terms of one sign: no cancellation.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "elem.h"

namespace vd {

inline constexpr float kInf = std::numeric_limits<float>::infinity();

struct RowState {
  float first = -kInf;       // m, the largest logit
  float second = -kInf;      // the largest logit without the entry `index`
  int64_t index = 0;         // lowest column that holds `first`
  double sum = 0.0;
  double weighted = 0.0;
  bool is_irregular = false;  // a NaN or +inf was met: the sums mean nothing

  // Joins the sums of a part whose reference was `reference`; call before join_top.
  void join_sums(float reference, double part_sum, double part_weighted) {
    if (part_sum == 0.0) return;
    if (sum == 0.0) {
      sum = part_sum;
      weighted = part_weighted;
    } else if (reference > first) {
      rescale(sum, weighted, double{first} - double{reference});
      sum += part_sum;
      weighted += part_weighted;
    } else {
      rescale(part_sum, part_weighted, double{reference} - double{first});
      sum += part_sum;
      weighted += part_weighted;
    }
  }

  // Joins the two largest logits of a part with higher columns than any seen before.
  void join_top(float part_first, float part_second, int64_t part_index) {
    if (part_first > first) {
      second = first > part_second ? first : part_second;
      first = part_first;
      index = part_index;
    } else if (part_first > second) {
      second = part_first;
    }
  }

  void join(const RowState& part) {
    is_irregular = is_irregular || part.is_irregular;
    join_sums(part.first, part.sum, part.weighted);
    join_top(part.first, part.second, part.index);
  }

 private:
  // Moves sums from reference m to m', given shift = m - m' <= 0.
  static void rescale(double& sum, double& weighted, double shift) {
    if (shift == 0.0) return;
    const double factor = std::exp(shift);
    weighted = factor * (weighted + shift * sum);
    sum *= factor;
  }
};

// Lowest column with a NaN; without one, the lowest column with +inf.
template <class Elem>
int64_t first_irregular(const Elem* row, int64_t columns, int64_t exclude) {
  int64_t found = -1;
  for (int64_t i = 0; i < columns; ++i) {
    const float x = to_float(row[i]);
    if (i == exclude) continue;
    if (x != x) return i;
    if (x == kInf && found < 0) found = i;
  }
  return found;
}

// Output arrays of one call, one entry per row.
struct RowStatsOut {
  int64_t* argmax;
  float* prob;
  float* second;
  float* entropy;
  float* lse;

  void write(int64_t row, const RowState& state) const {
    argmax[row] = state.index;
    if (state.is_irregular || state.sum == 0.0) {  // no distribution
      constexpr float nan = std::numeric_limits<float>::quiet_NaN();
      prob[row] = second[row] = entropy[row] = lse[row] = nan;
      return;
    }
    const double log_sum = std::log(state.sum);
    const double gap = double{state.second} - double{state.first};
    prob[row] = static_cast<float>(1.0 / state.sum);
    second[row] = static_cast<float>((gap == 0.0 ? 1.0 : std::exp(gap)) / state.sum);
    entropy[row] = static_cast<float>(log_sum - state.weighted / state.sum);
    lse[row] = static_cast<float>(state.first + log_sum);
  }
};

}  // namespace vd
