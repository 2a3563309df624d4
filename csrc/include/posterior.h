// Sums and maxima over all texts of blocks that automata allow, in logarithms.
// Equal, up to the order of sums, to vllm_diffusion/structured/posterior.py, which defines it.
//
// A block has a few thousand edges. What costs time in torch is the number of calls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace vd {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// K requests, one automaton each, padded to N states, C classes and E edges; L positions.
// Field for field the ctypes structure of cpu_posterior.py.
struct Posterior {
  int64_t K, L, N, C, E;
  const int64_t* src;       // (K, E)
  const int64_t* cls;       // (K, E)
  const int64_t* dst;       // (K, E)
  const int64_t* distance;  // (K, N), tokens to the end
  const int64_t* start;     // (K)
  const int64_t* end;       // (K), positions that exist
  const int64_t* slack;     // (K), tokens that may follow
};

// log(sum of exp) of values that are added one after the other, by index.
class LogSums {
 public:
  explicit LogSums(int64_t size) : top_(size), sum_(size) {}

  // `value(e)` and `index(e)` of each of the edges; the answer goes to `out`.
  template <class Value, class Index>
  void run(int64_t num_edges, Value value, Index index, std::vector<double>& values, double* out) {
    std::fill(top_.begin(), top_.end(), kNever);
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (int64_t e = 0; e < num_edges; ++e) {
      values[e] = value(e);
      double& top = top_[index(e)];
      top = std::max(top, values[e]);
    }
    for (int64_t e = 0; e < num_edges; ++e) {
      if (values[e] != kNever) sum_[index(e)] += std::exp(values[e] - top_[index(e)]);
    }
    for (size_t i = 0; i < top_.size(); ++i) {
      out[i] = top_[i] == kNever ? kNever : top_[i] + std::log(sum_[i]);
    }
  }

 private:
  std::vector<double> top_, sum_;
};

class PosteriorOf {
 public:
  PosteriorOf(const Posterior& in, int64_t k)
      : in_(in),
        src_(in.src + k * in.E),
        cls_(in.cls + k * in.E),
        dst_(in.dst + k * in.E),
        distance_(in.distance + k * in.N),
        start_(in.start[k]),
        end_(std::min(in.end[k], in.L)),
        slack_(in.slack[k]),
        values_(in.E) {}

  // Sums (L + 1, N) over the ways from each state to an exit; `score` is (L, C).
  void sums(const double* score, double* to_exit) {
    LogSums by_state(in_.N);
    exits(to_exit);
    for (int64_t at = in_.L - 1; at >= 0; --at) {
      const double* const next = to_exit + (at + 1) * in_.N;
      double* const here = to_exit + at * in_.N;
      if (at >= end_) {
        std::copy(next, next + in_.N, here);
        continue;
      }
      const double* const own = score + at * in_.C;
      by_state.run(
          in_.E, [&](int64_t e) { return own[cls_[e]] + next[dst_[e]]; },
          [&](int64_t e) { return src_[e]; }, values_, here);
    }
  }

  // What each class is multiplied with to give marginals, (L, C); 0 behind the end.
  void factors(const double* score, const double* to_exit, double* out) {
    std::vector<double> at_state(in_.N, kNever), moved(in_.N);
    LogSums by_class(in_.C), by_state(in_.N);
    at_state[start_] = 0.0;
    const double total = to_exit[start_] == kNever ? 0.0 : to_exit[start_];
    for (int64_t at = 0; at < in_.L; ++at, out += in_.C) {
      if (at >= end_) {
        std::fill(out, out + in_.C, 0.0);
        continue;
      }
      const double* const next = to_exit + (at + 1) * in_.N;
      by_class.run(
          in_.E, [&](int64_t e) { return at_state[src_[e]] + next[dst_[e]] - total; },
          [&](int64_t e) { return cls_[e]; }, values_, out);
      const double any = out[in_.C - 1];
      if (any != kNever) {
        for (int64_t c = 0; c < in_.C; ++c) {
          const double top = std::max(out[c], any);
          out[c] = top + std::log(std::exp(out[c] - top) + std::exp(any - top));
        }
      }
      const double* const own = score + at * in_.C;
      by_state.run(
          in_.E, [&](int64_t e) { return at_state[src_[e]] + own[cls_[e]]; },
          [&](int64_t e) { return dst_[e]; }, values_, moved.data());
      at_state.swap(moved);
    }
  }

  // The classes (L) of the most probable text, C - 1 where any token may stand, and the states in
  // front of them. `score` is (L, C).
  void best(const double* score, int64_t* classes, int64_t* states) {
    std::vector<double> to_exit((in_.L + 1) * in_.N);
    exits(to_exit.data());
    for (int64_t at = in_.L - 1; at >= 0; --at) {
      const double* const next = to_exit.data() + (at + 1) * in_.N;
      double* const here = to_exit.data() + at * in_.N;
      if (at >= end_) {
        std::copy(next, next + in_.N, here);
        continue;
      }
      std::fill(here, here + in_.N, kNever);
      const double* const own = score + at * in_.C;
      for (int64_t e = 0; e < in_.E; ++e) {
        here[src_[e]] = std::max(here[src_[e]], own[cls_[e]] + next[dst_[e]]);
      }
    }
    follow(score, to_exit.data(), classes, states);
  }

  // The same along given sums or maxima over the ways to an exit, (L + 1, N).
  void follow(const double* score, const double* to_exit, int64_t* classes, int64_t* states) const {
    int64_t state = start_;
    for (int64_t at = 0; at < in_.L; ++at) {
      classes[at] = in_.C - 1;
      states[at] = state;
      if (at >= end_) continue;
      const double* const own = score + at * in_.C;
      const double* const next = to_exit + (at + 1) * in_.N;
      double highest = kNever;
      int64_t following = state;
      for (int64_t e = 0; e < in_.E; ++e) {
        if (src_[e] != state) continue;
        const double value = own[cls_[e]] + next[dst_[e]];
        if (value > highest) highest = value, following = dst_[e], classes[at] = cls_[e];
      }
      state = following;
    }
  }

 private:
  // Where a canvas may end; `to_exit` is (L + 1, N), of which this is the last row.
  void exits(double* to_exit) const {
    const int64_t reach = std::max(slack_, distance_[start_] - end_);
    for (int64_t n = 0; n < in_.N; ++n) {
      to_exit[in_.L * in_.N + n] = distance_[n] <= reach ? 0.0 : kNever;
    }
  }

  const Posterior& in_;
  const int64_t *src_, *cls_, *dst_, *distance_;
  const int64_t start_, end_, slack_;
  std::vector<double> values_;
};

}  // namespace vd
