// One text of each block that an automaton over tokens holds, and how sure the model is of it.
// Equal, up to the order of sums, to vllm_diffusion/structured/block_text.py, which defines it.
//
// Only states that the text can be in at a position are looked at: few, next to all of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "class_stats.h"
#include "posterior.h"
#include "row_stats.h"
#include "token_automaton.h"

namespace vd {

// One block. Eight bytes a field, in the order of the columns of cpu_constrained.py.
struct TextJob {
  const TokenAutomaton* automaton;
  const int64_t* tokens;  // of the canvas
  const bool* masked;
  int64_t start;      // state in front of the canvas
  int64_t end;        // positions that exist and may be emitted
  int64_t slack;      // tokens that may follow them
  int64_t row_start;  // first row of the logits
  int64_t num_rows;
};

// One entry a canvas position; where none is chosen, the others mean nothing.
struct TextOut {
  int64_t* token;
  float *prob, *second, *entropy;
  bool *is_chosen, *is_forced, *is_behind;

  TextOut at(int64_t offset) const {
    return {token + offset,     prob + offset,      second + offset,   entropy + offset,
            is_chosen + offset, is_forced + offset, is_behind + offset};
  }
};

// What rows of logits say of each class, (positions, C).
template <class T>
using Table = std::unique_ptr<T[]>;

struct Scores {
  explicit Scores(int64_t size)
      : total(new double[size]), weighted(new double[size]), first(new float[size]),
        second(new float[size]), token(new int64_t[size]) {}

  ClassOut at(int64_t offset) const {
    return {&total[offset], &weighted[offset], &first[offset], &second[offset], &token[offset]};
  }

  Table<double> total, weighted;
  Table<float> first, second;
  Table<int64_t> token;
};

// What is so much less likely than the likeliest does not change a sum of doubles.
constexpr double kNegligible = -40.0;

// Logarithm of a sum of exponentials, added up in order.
template <class Value>
double log_sum(int64_t size, Value value) {
  double top = kNever, sum = 0.0;
  for (int64_t i = 0; i < size; ++i) top = std::max(top, value(i));
  if (top == kNever) return kNever;
  for (int64_t i = 0; i < size; ++i) {
    const double less = value(i) - top;
    if (less > kNegligible) sum += std::exp(less);
  }
  return top + std::log(sum);
}

// Logarithm of a probability that adds nothing to an entropy.
constexpr double kTiny = -60.0;

class BlockText {
 public:
  // `scores` are those of the canvas's positions up to the job's end.
  BlockText(const TextJob& job, const ClassOut& scores)
      : job_(job), a_(*job.automaton), in_(scores), end_(job.end), C_(a_.C + 1),
        fixed_(end_), sum_(end_ * C_, kNever), max_(end_ * C_, kNever),
        to_exit_((end_ + 1) * a_.N, kNever), best_exit_((end_ + 1) * a_.N, kNever),
        factor_(C_), local_(C_), follows_(C_) {}

  void run(const TextOut& out, double trusted) {
    read();
    reach();
    backward();
    if (to_exit_[job_.start] == kNever) return;
    std::vector<double> here(a_.N, kNever), next(a_.N, kNever), top(std::max(a_.N, C_));
    here[job_.start] = 0.0;
    int64_t state = job_.start, num_doubted = 0;
    bool has_stopped = false;
    for (int64_t at = 0; at < end_; ++at) {
      int64_t following = state, best = best_class(at, state, following);
      if (fixed_[at] < 0) {
        factors(at, here, top);
        if (best == a_.C) best = first_class(at);
        choose(at, state, best, trusted, num_doubted, has_stopped, out);
        if (best == a_.stop()) has_stopped = true;
      }
      forward(at, here, next, top);
      here.swap(next);
      state = following;
    }
  }

 private:
  double& exit_at(std::vector<double>& of, int64_t at, int64_t n) { return of[at * a_.N + n]; }

  // Scores; the maximum over every token behind the others. Its sum is read where a text may have
  // ended alone: see reach.
  void read() {
    for (int64_t at = 0; at < end_; ++at) {
      double *const sum = &sum_[at * C_], *const max = &max_[at * C_];
      fixed_[at] = job_.masked[at] ? -1 : a_.class_of_token(job_.tokens[at]);
      if (fixed_[at] >= 0) {
        sum[fixed_[at]] = max[fixed_[at]] = sum[a_.C] = max[a_.C] = 0.0;
        continue;
      }
      const double* const total = in_.sum + at * a_.C;
      const float* const first = in_.first + at * a_.C;
      std::copy_n(total, a_.C, sum);
      std::copy_n(first, a_.C, max);
      max[a_.C] = *std::max_element(first, first + a_.C);
    }
  }

  // The states that the text can be in in front of each position, whatever the model says.
  void reach() {
    std::vector<int64_t> seen(a_.N, -1);
    border_ = {0, 1};
    states_ = {job_.start};
    for (int64_t at = 0; at < end_; ++at) {
      const int64_t fixed = fixed_[at];
      for (int64_t i = border_[at]; i < border_[at + 1]; ++i) {
        const int64_t n = states_[i];
        for (int64_t e = a_.first_edge[n]; e < a_.first_edge[n + 1]; ++e) {
          const int64_t d = a_.dst[e];
          if (seen[d] == at || (fixed >= 0 && a_.cls[e] != fixed && a_.cls[e] != a_.C)) continue;
          seen[d] = at;
          states_.push_back(d);
        }
      }
      // In their order, as sums over all edges would meet them.
      std::sort(states_.begin() + border_[at + 1], states_.end());
      if (fixed < 0 && states_[border_[at + 1] - 1] == a_.done()) {
        const double* const total = in_.sum + at * a_.C;
        sum_[at * C_ + a_.C] = log_sum(a_.C, [&](int64_t c) { return total[c]; });
      }
      border_.push_back(static_cast<int64_t>(states_.size()));
    }
  }

  template <class Do>
  void each_state(int64_t at, Do act) const {
    for (int64_t i = border_[at]; i < border_[at + 1]; ++i) act(states_[i]);
  }

  void backward() {
    const int64_t within = std::max(job_.slack, a_.distance[job_.start] - end_);
    each_state(end_, [&](int64_t n) {
      const double value = a_.distance[n] <= within ? 0.0 : kNever;
      exit_at(to_exit_, end_, n) = exit_at(best_exit_, end_, n) = value;
    });
    for (int64_t at = end_ - 1; at >= 0; --at) {
      const double *const sum = &sum_[at * C_], *const max = &max_[at * C_];
      const double* const next = &to_exit_[(at + 1) * a_.N];
      const double* const best_next = &best_exit_[(at + 1) * a_.N];
      each_state(at, [&](int64_t n) {
        const int64_t begin = a_.first_edge[n];
        exit_at(to_exit_, at, n) = log_sum(a_.first_edge[n + 1] - begin, [&](int64_t i) {
          return sum[a_.cls[begin + i]] + next[a_.dst[begin + i]];
        });
        double& best = exit_at(best_exit_, at, n);
        for (int64_t e = begin; e < a_.first_edge[n + 1]; ++e) {
          best = std::max(best, max[a_.cls[e]] + best_next[a_.dst[e]]);
        }
      });
    }
  }

  // Sums of the edges' values by an index of theirs. `top` is room.
  template <class Value, class Index>
  void sums(int64_t at, int64_t size, Value value, Index index, std::vector<double>& top,
            std::vector<double>& out) {
    std::fill_n(top.begin(), size, kNever);
    std::fill_n(out.begin(), size, 0.0);
    each_state(at, [&](int64_t n) {
      for (int64_t e = a_.first_edge[n]; e < a_.first_edge[n + 1]; ++e) {
        top[index(e)] = std::max(top[index(e)], value(n, e));
      }
    });
    each_state(at, [&](int64_t n) {
      for (int64_t e = a_.first_edge[n]; e < a_.first_edge[n + 1]; ++e) {
        const double one = value(n, e);
        if (one == kNever) continue;
        const double less = one - top[index(e)];
        if (less > kNegligible) out[index(e)] += std::exp(less);
      }
    });
    for (int64_t i = 0; i < size; ++i) {
      out[i] = top[i] == kNever ? kNever : top[i] + std::log(out[i]);
    }
  }

  // What each class is multiplied with to give marginals.
  void factors(int64_t at, const std::vector<double>& here, std::vector<double>& top) {
    const double total = to_exit_[job_.start];
    const double* const next = &to_exit_[(at + 1) * a_.N];
    sums(
        at, C_, [&](int64_t n, int64_t e) { return here[n] + next[a_.dst[e]] - total; },
        [&](int64_t e) { return a_.cls[e]; }, top, factor_);
    const double any = factor_[a_.C];
    if (any == kNever) return;
    for (double& factor : factor_) {
      const double higher = std::max(factor, any);
      factor = higher + std::log(std::exp(factor - higher) + std::exp(any - higher));
    }
  }

  void forward(int64_t at, const std::vector<double>& here, std::vector<double>& next,
               std::vector<double>& top) {
    const double* const sum = &sum_[at * C_];
    sums(
        at, a_.N, [&](int64_t n, int64_t e) { return here[n] + sum[a_.cls[e]]; },
        [&](int64_t e) { return a_.dst[e]; }, top, next);
  }

  // The class of the most probable text at a position, and the state behind it.
  int64_t best_class(int64_t at, int64_t state, int64_t& following) const {
    const double *const max = &max_[at * C_], *const next = &best_exit_[(at + 1) * a_.N];
    double highest = kNever;
    int64_t best = a_.C;
    for (int64_t e = a_.first_edge[state]; e < a_.first_edge[state + 1]; ++e) {
      const double value = max[a_.cls[e]] + next[a_.dst[e]];
      if (value > highest) highest = value, following = a_.dst[e], best = a_.cls[e];
    }
    return best;
  }

  // The class of the model's own choice.
  int64_t first_class(int64_t at) const {
    const float* const first = in_.first + at * a_.C;
    return std::max_element(first, first + a_.C) - first;
  }

  bool is_only_one() const {
    int64_t count = 0, last = 0;
    for (int64_t c = 0; c < C_; ++c) {
      if (factor_[c] > kNever) ++count, last = c;
    }
    return count == 1 && last < a_.C && a_.size[last] == 1;
  }

  void choose(int64_t at, int64_t state, int64_t best, double trusted, int64_t& num_doubted,
              bool has_stopped, const TextOut& out) {
    const ClassOut in{in_.sum + at * a_.C, in_.weighted + at * a_.C, in_.first + at * a_.C,
                      in_.second + at * a_.C, in_.token + at * a_.C};
    const double* const next = &to_exit_[(at + 1) * a_.N];
    std::fill(follows_.begin(), follows_.end(), 0);
    for (int64_t e = a_.first_edge[state]; e < a_.first_edge[state + 1]; ++e) {
      if (next[a_.dst[e]] > kNever) follows_[a_.cls[e]] = 1;
    }
    if (follows_[a_.C]) std::fill(follows_.begin(), follows_.end(), 1);
    const double mass =
        log_sum(a_.C, [&](int64_t c) { return follows_[c] ? in.sum[c] : kNever; });
    const bool is_doubted = std::exp(mass) < trusted;
    num_doubted += is_doubted;
    const bool is_forced = is_only_one();
    const bool is_first = is_doubted && num_doubted == 1 && !is_forced;
    if (is_first) {
      for (int64_t c = 0; c < a_.C; ++c) local_[c] = follows_[c] ? -mass : kNever;
    }
    const std::vector<double>& weight = is_first ? local_ : factor_;
    double highest = kNever, runner_up = kNever, nats = 0.0;
    int64_t chosen = 0;
    for (int64_t c = 0; c < a_.C; ++c) {
      const double one = double{in.first[c]} + weight[c], other = double{in.second[c]} + weight[c];
      if (one > highest) {
        runner_up = highest;
        highest = one;
        chosen = c;
      } else {
        runner_up = std::max(runner_up, one);
      }
      runner_up = std::max(runner_up, other);
      if (weight[c] + in.sum[c] > kTiny) {
        nats -= std::exp(weight[c]) * (in.weighted[c] + weight[c] * std::exp(in.sum[c]));
      }
    }
    if (!is_first) chosen = best;
    const float prob = static_cast<float>(std::exp(double{in.first[chosen]} + weight[chosen]));
    out.token[at] = in.token[chosen];
    out.prob[at] = std::min(prob, 1.0f);
    out.second[at] = static_cast<float>(std::exp(runner_up));
    out.entropy[at] = static_cast<float>(nats);
    out.is_chosen[at] = at < job_.num_rows;
    out.is_forced[at] = is_forced;
    out.is_behind[at] = (has_stopped || (num_doubted > 0 && !is_first)) && !is_forced;
  }

  const TextJob& job_;
  const TokenAutomaton& a_;
  const ClassOut in_;
  const int64_t end_, C_;
  std::vector<int64_t> fixed_, states_, border_;
  std::vector<double> sum_, max_, to_exit_, best_exit_, factor_, local_;
  std::vector<uint8_t> follows_;
};

// The texts of K blocks; `out` is (K, length).
class BlockTexts {
 public:
  BlockTexts(const TextJob* jobs, int64_t K, const Logits& logits, int64_t excluded)
      : jobs_(jobs), K_(K), logits_(logits), excluded_(excluded) {}

  void run(const TextOut& out, int64_t length, double trusted, int num_threads) const {
    std::vector<int64_t> offset(K_ + 1, 0);
    std::vector<std::pair<int64_t, int64_t>> places;
    for (int64_t k = 0; k < K_; ++k) {
      const int64_t end = std::max<int64_t>(jobs_[k].end, 0);
      offset[k + 1] = offset[k] + end * jobs_[k].automaton->C;
      for (int64_t at = 0; at < end; ++at) places.emplace_back(k, at);
    }
    const Scores scores(offset[K_]);
    const auto num_places = static_cast<int64_t>(places.size());
#pragma omp parallel for num_threads(num_threads) schedule(dynamic) if (num_threads > 1)
    for (int64_t i = 0; i < num_places; ++i) {
      const auto [k, at] = places[i];
      if (!jobs_[k].masked[at]) continue;
      const ClassOut here = scores.at(offset[k] + at * jobs_[k].automaton->C);
      at < jobs_[k].num_rows ? read(jobs_[k], at, here) : assume(*jobs_[k].automaton, here);
    }
#pragma omp parallel for num_threads(num_threads) schedule(dynamic) if (num_threads > 1)
    for (int64_t k = 0; k < K_; ++k) {
      const TextOut here = out.at(k * length);
      for (bool* const flags : {here.is_chosen, here.is_forced, here.is_behind}) {
        std::fill_n(flags, length, false);
      }
      if (jobs_[k].end > 0) {
        BlockText(jobs_[k], scores.at(offset[k])).run(here, trusted);
      }
    }
  }

 private:
  void read(const TextJob& job, int64_t at, const ClassOut& out) const {
    const TokenAutomaton& a = *job.automaton;
    const void* const row = logits_.row(job.row_start + at);
    class_stats(logits_.dtype, row, excluded_, {a.order, a.border, a.C}, a.C, best_level(), out);
    for (int64_t c = 0; c < a.C; ++c) out.token[c] = std::max<int64_t>(out.token[c], 0);
  }

  // Where the step has no row every token is as good.
  static void assume(const TokenAutomaton& a, const ClassOut& out) {
    const auto never = static_cast<float>(kNever);
    for (int64_t c = 0; c < a.C; ++c) {
      out.sum[c] = std::log(static_cast<double>(a.size[c]));
      out.weighted[c] = 0.0;
      out.first[c] = a.size[c] > 0 ? 0.0f : never;
      out.second[c] = a.size[c] > 1 ? 0.0f : never;
      out.token[c] = std::max<int64_t>(a.sample[c], 0);
    }
  }

  const TextJob* const jobs_;
  const int64_t K_;
  const Logits& logits_;
  const int64_t excluded_;
};

}  // namespace vd
