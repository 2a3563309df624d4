// One denoising step of a batch, some of whose requests an automaton over tokens holds. Equal, up to
// the order of sums, to what worker/sampler.py does with worker/constrained.py and
// structured/frontier.py, which define it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_text.h"
#include "denoise.h"
#include "row_stats.h"
#include "token_automaton.h"

namespace vd {

// Nats; the entropy of no vocabulary. UNKNOWN in worker/constrained.py.
constexpr float kUnknown = 1e4f;

class ConstrainedStep {
 public:
  ConstrainedStep(const Slots& slots, Follow* follows, const Batch& batch)
      : slots_(slots), follows_(follows), batch_(batch) {}

  void fill(const Logits& logits, Level level, int num_threads, double trusted, uint8_t* is_left) {
    read(logits, trusted, num_threads);
    for (const int64_t r : constrained_) mask(logits, r);
    stats(logits, level, num_threads);
    for (size_t k = 0; k < constrained_.size(); ++k) put(k);
    Denoiser denoiser(slots_, {token_.data(), prob(), second(), entropy()});
    for (int64_t r = 0; r < batch_.size; ++r) {
      const int64_t slot = batch_.slot[r], width = batch_.width(r);
      is_left[r] = 0;
      denoiser.fill(batch_, r);
      if (width > 0 && follows_[slot].automaton) {
        is_left[r] = !follows_[slot].follow(tokens(slot), masked(slot), width, slots_.mask_id);
      }
    }
  }

  void converge(const Outcome& out, uint8_t* is_left) {
    const Denoiser denoiser(slots_, {});
    for (int64_t r = 0; r < batch_.size; ++r) {
      const int64_t slot = batch_.slot[r];
      denoiser.converge(batch_, r, out);
      is_left[r] = 0;
      Follow& follow = follows_[slot];
      if (!follow.automaton || out.num_emitted[r] == 0) continue;
      follow.emitted(out.num_emitted[r]);
      is_left[r] = !follow.follow(tokens(slot), masked(slot), follow.block_length, slots_.mask_id);
    }
  }

 private:
  int64_t* tokens(int64_t slot) const { return slots_.tokens + slot * slots_.length; }
  bool* masked(int64_t slot) const { return slots_.masked + slot * slots_.length; }

  // Texts of what the model expects, before anything is masked.
  void read(const Logits& logits, double trusted, int num_threads) {
    std::vector<TextJob> jobs;
    for (int64_t r = 0; r < batch_.size; ++r) {
      const int64_t slot = batch_.slot[r], width = batch_.width(r);
      const Follow& follow = follows_[slot];
      if (width == 0 || !follow.automaton || follow.is_done()) continue;
      const int64_t end = std::min(width, follow.num_left);
      constrained_.push_back(r);
      jobs.push_back({follow.automaton, tokens(slot), masked(slot), follow.at_start(), end,
                      follow.num_left - end, batch_.row_border[r], width});
    }
    const auto size = static_cast<int64_t>(jobs.size());
    const size_t entries = size * slots_.length;
    text_token_.resize(entries);
    text_floats_.resize(3 * entries);
    text_flags_.resize(3 * entries);
    float* const floats = text_floats_.data();
    bool* const flags = reinterpret_cast<bool*>(text_flags_.data());
    text_ = {text_token_.data(), floats, floats + entries, floats + 2 * entries,
             flags,              flags + entries, flags + 2 * entries};
    BlockTexts(jobs.data(), size, logits, slots_.mask_id)
        .run(text_, slots_.length, trusted, num_threads);
  }

  // Leaves the tokens that may stand at the frontier of request r.
  void mask(const Logits& logits, int64_t r) const {
    const Follow& follow = follows_[batch_.slot[r]];
    if (follow.frontier >= batch_.width(r)) return;
    // The binding hands in logits that may be written to.
    void* const row = const_cast<void*>(logits.row(batch_.row_border[r] + follow.frontier));
    const auto keep = [&](auto* entries) {
      keep_allowed(entries, logits.columns, *follow.automaton, follow.state);
    };
    switch (logits.dtype) {
      case Dtype::kFloat32:
        return keep(static_cast<float*>(row));
      case Dtype::kBFloat16:
        return keep(static_cast<BFloat16*>(row));
      case Dtype::kFloat16:
        return keep(static_cast<Float16*>(row));
    }
  }

  // Of the rows that no text has the say in.
  void stats(const Logits& logits, Level level, int num_threads) {
    const int64_t rows = logits.rows;
    token_.resize(rows);
    floats_.resize(4 * rows);
    std::vector<uint8_t> is_read(rows, 1);
    for (size_t k = 0; k < constrained_.size(); ++k) {
      const int64_t r = constrained_[k];
      for (int64_t i = 0; i < batch_.width(r); ++i) {
        if (text_.is_chosen[k * slots_.length + i]) is_read[batch_.row_border[r] + i] = 0;
      }
    }
    for (int64_t begin = 0; begin < rows;) {
      const int64_t end =
          std::find(is_read.begin() + begin, is_read.end(), !is_read[begin]) - is_read.begin();
      if (is_read[begin]) {
        const Logits part{logits.data + begin * logits.row_bytes, end - begin, logits.columns,
                          logits.row_bytes, logits.dtype, logits.exclude};
        float* const here = floats_.data() + begin;
        row_stats(part, {&token_[begin], here, here + rows, here + 2 * rows, here + 3 * rows},
                  level, num_threads);
      }
      begin = end;
    }
  }

  // The text of the k-th constrained request, in the place of each position's own answer. Models are
  // sure of what stands behind the end of a text: it counts as unknown.
  void put(size_t k) {
    const int64_t r = constrained_[k], slot = batch_.slot[r];
    const TextOut text = text_.at(static_cast<int64_t>(k) * slots_.length);
    for (int64_t i = 0; i < batch_.width(r); ++i) {
      if (!text.is_chosen[i]) continue;
      const int64_t row = batch_.row_border[r] + i;
      const bool is_behind = text.is_behind[i];
      token_[row] = text.token[i];
      prob()[row] = is_behind ? 0.0f : text.prob[i];
      second()[row] = is_behind ? 0.0f : text.second[i];
      entropy()[row] = is_behind ? kUnknown : text.entropy[i];
      if (text.is_forced[i]) {
        tokens(slot)[i] = text.token[i];
        masked(slot)[i] = false;
      }
    }
  }

  float* prob() { return floats_.data(); }
  float* second() { return floats_.data() + token_.size(); }
  float* entropy() { return floats_.data() + 2 * token_.size(); }

  const Slots& slots_;
  Follow* const follows_;
  const Batch batch_;
  std::vector<int64_t> constrained_, token_, text_token_;
  std::vector<float> floats_, text_floats_;
  std::vector<uint8_t> text_flags_;
  TextOut text_{};
};

}  // namespace vd
