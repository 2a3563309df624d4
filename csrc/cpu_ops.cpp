// C interface of the CPU kernels: pointers and sizes only, so one build serves every torch version.
// The Python side (vllm_diffusion/kernels) validates; here values are trusted.

#include <cstdint>
#include <vector>

#include "block_text.h"
#include "class_stats.h"
#include "constrained_step.h"
#include "denoise.h"
#include "posterior.h"
#include "row_stats.h"

#define VD_EXPORT __attribute__((visibility("default")))

extern "C" {

// Raised whenever a signature below changes; the binding refuses any other value.
VD_EXPORT int vd_abi_version() { return 8; }

// Best level this processor runs: 0 portable, 1 avx2, 2 avx512.
VD_EXPORT int vd_best_level() { return static_cast<int>(vd::best_level()); }

// Row statistics of `logits` (rows, columns), `row_bytes` between rows, entries contiguous.
//   dtype    0 float32, 1 bfloat16, 2 float16
//   exclude  column left out, or -1
//   level    at most vd_best_level()
//   argmax   int64 (rows)
//   stats    float32 (4, rows): prob, second, entropy, lse
VD_EXPORT void vd_row_stats(const void* logits, int64_t rows, int64_t columns, int64_t row_bytes,
                            int dtype, int64_t exclude, int level, int num_threads,
                            int64_t* argmax, float* stats) {
  const vd::Logits in{static_cast<const char*>(logits), rows,   columns, row_bytes,
                      static_cast<vd::Dtype>(dtype),    exclude};
  const vd::RowStatsOut out{argmax, stats, stats + rows, stats + 2 * rows, stats + 3 * rows};
  vd::row_stats(in, out, static_cast<vd::Level>(level), num_threads);
}

// One denoising step of `requests`, in their slots.
//   token, prob, second, entropy   of each row of the logits
//   slot          int64 (requests)
//   row_border    int32 (requests + 1)
//   rejected      int64 (requests), num_rejected where there is a canvas
//   tokens        int64 (requests, length), num_emitted and num_rejected int32 (requests)
VD_EXPORT void vd_denoise(const vd::Slots* slots, const int64_t* token, const float* prob,
                          const float* second, const float* entropy, int64_t requests,
                          const int64_t* slot, const int32_t* row_border,
                          const int64_t* rejected, int64_t* tokens, int32_t* num_emitted,
                          int32_t* num_rejected) {
  vd::Denoiser(*slots, {token, prob, second, entropy})
      .run({requests, slot, row_border, rejected}, {tokens, num_emitted, num_rejected});
}

// vd_row_stats, which leaves out the mask token, and vd_denoise of its answer.
VD_EXPORT void vd_denoise_logits(const vd::Slots* slots, const void* logits, int64_t rows,
                                 int64_t columns, int64_t row_bytes, int dtype, int level,
                                 int num_threads, int64_t requests, const int64_t* slot,
                                 const int32_t* row_border, const int64_t* rejected,
                                 int64_t* tokens, int32_t* num_emitted, int32_t* num_rejected) {
  std::vector<int64_t> token(rows);
  std::vector<float> stats(4 * rows);
  vd_row_stats(logits, rows, columns, row_bytes, dtype, slots->mask_id, level, num_threads,
               token.data(), stats.data());
  const float* const prob = stats.data();
  vd_denoise(slots, token.data(), prob, prob + rows, prob + 2 * rows, requests, slot, row_border,
             rejected, tokens, num_emitted, num_rejected);
}

// Sums over all texts that the automata of K requests allow.
//   score     float64 (K, L, C), sums of each class
//   to_exit   float64 (K, L + 1, N)
//   factor    float64 (K, L, C), or null
VD_EXPORT void vd_posterior_sums(const vd::Posterior* in, const double* score, double* to_exit,
                               double* factor) {
  for (int64_t k = 0; k < in->K; ++k) {
    vd::PosteriorOf of(*in, k);
    double* const here = to_exit + k * (in->L + 1) * in->N;
    of.sums(score + k * in->L * in->C, here);
    if (factor) of.factors(score + k * in->L * in->C, here, factor + k * in->L * in->C);
  }
}

// The classes of the most probable texts and the states in front of them, int64 (K, L); score
// float64 (K, L, C), maxima.
VD_EXPORT void vd_posterior_best(const vd::Posterior* in, const double* score, int64_t* classes,
                               int64_t* states) {
  for (int64_t k = 0; k < in->K; ++k) {
    vd::PosteriorOf(*in, k).best(score + k * in->L * in->C, classes + k * in->L, states + k * in->L);
  }
}

// The same for draws: `to_exit` (K, L + 1, N) of vd_posterior_sums, `value` float64 (K, L, C).
VD_EXPORT void vd_posterior_path(const vd::Posterior* in, const double* to_exit, const double* value,
                               int64_t* classes, int64_t* states) {
  for (int64_t k = 0; k < in->K; ++k) {
    vd::PosteriorOf(*in, k).follow(value + k * in->L * in->C, to_exit + k * (in->L + 1) * in->N,
                                 classes + k * in->L, states + k * in->L);
  }
}

// Tokens by class: order int32 (columns), border int64 (count + 1).
VD_EXPORT void vd_order_classes(const int32_t* cls, int64_t columns, int64_t count,
                                int32_t* order, int64_t* border) {
  vd::order_classes(cls, columns, count, order, border);
}

// Statistics by class of token of R rows of `logits` (see vd_row_stats).
//   row      int64 (R)
//   classes  vd::TokenClasses (R)
//   sum, weighted   float64 (R, C); first, second float32 (R, C); token int64 (R, C)
VD_EXPORT void vd_class_stats(const char* logits, int64_t row_bytes, int dtype, int64_t exclude,
                              int level, int num_threads, int64_t R, const int64_t* row,
                              const vd::TokenClasses* classes, int64_t C, double* sum,
                              double* weighted, float* first, float* second, int64_t* token) {
#pragma omp parallel for num_threads(num_threads) schedule(dynamic) if (num_threads > 1)
  for (int64_t r = 0; r < R; ++r) {
    vd::class_stats(static_cast<vd::Dtype>(dtype), logits + row[r] * row_bytes, exclude,
                    classes[r], C, static_cast<vd::Level>(level),
                    {sum + r * C, weighted + r * C, first + r * C, second + r * C, token + r * C});
  }
}

// Sums and draws by class of token of R rows of `logits`, tempered: the fields up to C as above.
//   temperature, lowest   float32 (R); key int64 (R)
//   total, value          float64 (R, C); token int64 (R, C)
VD_EXPORT void vd_class_draws(const char* logits, int64_t row_bytes, int dtype, int64_t exclude,
                              int level, int num_threads, int64_t R, const int64_t* row,
                              const vd::TokenClasses* classes, int64_t C,
                              const float* temperature, const float* lowest, const int64_t* key,
                              double* total, double* value, int64_t* token) {
  const vd::DrawFn draw =
      vd::draw_for(static_cast<vd::Level>(level), static_cast<vd::Dtype>(dtype));
#pragma omp parallel for num_threads(num_threads) schedule(dynamic) if (num_threads > 1)
  for (int64_t r = 0; r < R; ++r) {
    const vd::DrawRow how{temperature[r], lowest[r], static_cast<uint64_t>(key[r])};
    vd::class_draws(logits + row[r] * row_bytes, exclude, classes[r], C, how, draw, total + r * C,
                    value + r * C, token + r * C);
  }
}

// The texts of K blocks under automata.
//   jobs        K of them
//   logits ...  as in vd_row_stats
//   length      of a canvas
//   trusted     see TRUSTED in structured/block_text.py
//   token ... is_behind   (K, length)
VD_EXPORT void vd_block_texts(const vd::TextJob* jobs, int64_t K, const void* logits, int64_t rows,
                              int64_t columns, int64_t row_bytes, int dtype, int64_t exclude,
                              int64_t length, double trusted, int num_threads, int64_t* token,
                              float* prob, float* second, float* entropy, bool* is_chosen,
                              bool* is_forced, bool* is_behind) {
  const vd::Logits in{static_cast<const char*>(logits), rows,   columns, row_bytes,
                      static_cast<vd::Dtype>(dtype),    exclude};
  const vd::TextOut out{token, prob, second, entropy, is_chosen, is_forced, is_behind};
  vd::BlockTexts(jobs, K, in, exclude).run(out, length, trusted, num_threads);
}

// vd_denoise_logits up to what is emitted, for requests some of which an automaton holds.
//   follows     by slot
//   is_left     uint8 (requests): whether the canvas is left to Python
VD_EXPORT void vd_constrained_fill(const vd::Slots* slots, vd::Follow* follows, void* logits,
                                   int64_t rows, int64_t columns, int64_t row_bytes, int dtype,
                                   int level, int num_threads, double trusted, int64_t requests,
                                   const int64_t* slot, const int32_t* row_border,
                                   const int64_t* rejected, uint8_t* is_left) {
  const vd::Logits in{static_cast<const char*>(logits), rows,   columns, row_bytes,
                      static_cast<vd::Dtype>(dtype),    slots->mask_id};
  vd::ConstrainedStep(*slots, follows, {requests, slot, row_border, rejected})
      .fill(in, static_cast<vd::Level>(level), num_threads, trusted, is_left);
}

// The rest of that step: what is emitted, and what the canvases behind must start with.
VD_EXPORT void vd_constrained_settle(const vd::Slots* slots, vd::Follow* follows, int64_t requests,
                                     const int64_t* slot, const int32_t* row_border,
                                     const int64_t* rejected, int64_t* tokens,
                                     int32_t* num_emitted, int32_t* num_rejected,
                                     uint8_t* is_left) {
  vd::ConstrainedStep(*slots, follows, {requests, slot, row_border, rejected})
      .converge({tokens, num_emitted, num_rejected}, is_left);
}

}  // extern "C"
