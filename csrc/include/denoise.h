// One denoising step of a batch of canvases, in place, for the rules with an even schedule:
// acceptance, canvas update, what is emitted. Equal to the bit to vllm_diffusion/denoise/step.py,
// which defines it.
//
// A canvas is a few hundred operations. Plain loops on one thread do; what costs time in torch is
// the number of calls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "row_state.h"

namespace vd {

// Numbered as RULES in vllm_diffusion/kernels/cpu_denoise.py.
enum class Rule : int64_t { kConfidence = 0, kStatic = 1, kEntropy = 2, kMargin = 3 };

// What outlives a step, by slot. Field for field the ctypes structure of cpu_denoise.py.
struct Slots {
  const Rule* rule;
  const float* threshold;
  const int64_t* max_steps;
  const int64_t* block_length;
  const int64_t* max_len;
  const int64_t* stop_ids;  // (slots, num_stop_ids), padded with -1
  const int32_t* total_len;
  int64_t* tokens;  // (slots, length)
  bool* masked;     // (slots, length)
  int64_t* step;
  int64_t num_stop_ids;
  int64_t length;  // positions of a canvas
  int64_t max_model_len;
  int64_t mask_id;
};

// What the model says, one entry a row of the logits.
struct Answer {
  const int64_t* token;
  const float* prob;
  const float* second;
  const float* entropy;
};

// The requests of the step. The rows of logits of request r are row_border[r] up to
// row_border[r + 1], a row for each canvas position that exists; none without a canvas.
struct Batch {
  int64_t size;
  const int64_t* slot;
  const int32_t* row_border;
  const int64_t* rejected;  // query positions behind the final K and V, if there is a canvas

  int64_t width(int64_t r) const { return row_border[r + 1] - row_border[r]; }
};

// One entry a request, 0 without a canvas.
struct Outcome {
  int64_t* tokens;  // (requests, length)
  int32_t* num_emitted;
  int32_t* num_rejected;
};

class Denoiser {
 public:
  Denoiser(const Slots& slots, const Answer& answer)
      : slots_(slots), answer_(answer), score_(slots.length), accepted_(slots.length) {
    order_.reserve(slots.length);
  }

  void run(const Batch& batch, const Outcome& out) {
    for (int64_t r = 0; r < batch.size; ++r) {
      fill(batch, r);
      converge(batch, r, out);
    }
  }

  // Puts the candidates of the accepted positions on the canvas of request r.
  void fill(const Batch& batch, int64_t r) {
    const int64_t slot = batch.slot[r], width = batch.width(r);
    if (width == 0) return;
    int64_t* const tokens = slots_.tokens + slot * slots_.length;
    bool* const masked = slots_.masked + slot * slots_.length;
    fill(slot, batch.row_border[r], width, tokens, masked);
  }

  // Says what of the canvas is emitted, and makes room for a fresh one where all of it is.
  void converge(const Batch& batch, int64_t r, const Outcome& out) const {
    const int64_t slot = batch.slot[r], width = batch.width(r);
    int64_t* const shown = out.tokens + r * slots_.length;
    out.num_emitted[r] = out.num_rejected[r] = 0;
    if (width == 0) {
      std::fill_n(shown, slots_.length, 0);
      return;
    }
    int64_t* const tokens = slots_.tokens + slot * slots_.length;
    bool* const masked = slots_.masked + slot * slots_.length;
    const int64_t num_emitted = num_settled(slot, width, tokens, masked);
    std::copy_n(tokens, slots_.length, shown);
    out.num_emitted[r] = static_cast<int32_t>(num_emitted);
    out.num_rejected[r] = static_cast<int32_t>(batch.rejected[r]);
    slots_.step[slot] += 1;
    if (num_emitted > 0) {
      std::fill_n(tokens, slots_.length, slots_.mask_id);
      std::fill_n(masked, slots_.length, true);
      slots_.step[slot] = 0;
    }
  }

 private:
  void fill(int64_t slot, int64_t row_start, int64_t width, int64_t* tokens, bool* masked) {
    for (int64_t i = width; i < slots_.length; ++i) masked[i] = false;
    score(slots_.rule[slot], row_start, masked);
    accept(slots_.rule[slot], slots_.threshold[slot], even_floor(slot), masked);
    for (int64_t i = 0; i < slots_.length; ++i) {
      if (!accepted_[i] || !masked[i]) continue;
      tokens[i] = answer_.token[row_start + i];
      masked[i] = false;
    }
  }

  // Higher is accepted earlier; -inf where nothing may be accepted.
  void score(Rule rule, int64_t row_start, const bool* masked) {
    for (int64_t i = 0; i < slots_.length; ++i) {
      const int64_t row = row_start + i;
      if (!masked[i]) {
        score_[i] = -kInf;
      } else if (rule == Rule::kEntropy) {
        score_[i] = -answer_.entropy[row];
      } else if (rule == Rule::kMargin) {
        score_[i] = answer_.prob[row] - answer_.second[row];
      } else {
        score_[i] = answer_.prob[row];
      }
    }
  }

  // What the rule takes, and the floor of the best. May mark positions that are not masked.
  void accept(Rule rule, float threshold, int64_t floor, const bool* masked) {
    const bool is_bound = rule == Rule::kConfidence || rule == Rule::kMargin;
    for (int64_t i = 0; i < slots_.length; ++i) accepted_[i] = is_bound && score_[i] > threshold;
    if (rule == Rule::kEntropy) accept_within(threshold, masked);

    order_.resize(slots_.length);
    std::iota(order_.begin(), order_.end(), 0);
    const auto end = order_.begin() + std::min(floor, slots_.length);
    std::partial_sort(order_.begin(), end, order_.end(), [this](int64_t a, int64_t b) {
      const bool a_is_nan = std::isnan(score_[a]), b_is_nan = std::isnan(score_[b]);
      if (a_is_nan != b_is_nan) return a_is_nan;  // as torch sorts
      return is_ahead(a, b);
    });
    for (auto i = order_.begin(); i != end; ++i) accepted_[*i] = true;
  }

  // Entropy rule: the surest positions while their sum, rounded to float as torch does, is within.
  void accept_within(float threshold, const bool* masked) {
    order_.clear();
    for (int64_t i = 0; i < slots_.length; ++i) {
      if (masked[i] && !std::isnan(score_[i])) order_.push_back(i);
    }
    const auto order = [this](int64_t a, int64_t b) { return is_ahead(a, b); };
    std::sort(order_.begin(), order_.end(), order);
    double sum = 0.0;
    for (const int64_t i : order_) {
      sum -= double{score_[i]};
      accepted_[i] = static_cast<float>(sum) <= threshold;
    }
  }

  bool is_ahead(int64_t a, int64_t b) const {
    return score_[a] > score_[b] || (!(score_[a] < score_[b]) && a < b);
  }

  int64_t even_floor(int64_t slot) const {
    const int64_t block = slots_.block_length[slot], steps = slots_.max_steps[slot];
    return std::max<int64_t>(block / steps + (slots_.step[slot] < block % steps), 1);
  }

  // Tokens to emit now: 0 as long as a position before the block's end is masked.
  int64_t num_settled(int64_t slot, int64_t width, const int64_t* tokens,
                      const bool* masked) const {
    const int64_t limit =
        std::min(slots_.max_len[slot], slots_.max_model_len) - slots_.total_len[slot];
    const int64_t end = std::min(width, limit);
    const int64_t* const ids = slots_.stop_ids + slot * slots_.num_stop_ids;
    const int64_t* const ids_end = ids + slots_.num_stop_ids;
    for (int64_t i = 0; i < std::min(end, slots_.length); ++i) {
      if (masked[i]) return 0;
      if (std::find(ids, ids_end, tokens[i]) != ids_end) return i + 1;
    }
    return end;
  }

  const Slots& slots_;
  const Answer answer_;
  std::vector<float> score_;
  std::vector<uint8_t> accepted_;
  std::vector<int64_t> order_;
};

}  // namespace vd
