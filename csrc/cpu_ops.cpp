// C interface of the CPU kernels: pointers and sizes only, so one build serves every torch version.
// The Python side (vllm_diffusion/kernels/cpu.py) validates; here values are trusted.

#include <cstdint>

#include "row_stats.h"

#define VD_EXPORT __attribute__((visibility("default")))

extern "C" {

// Raised whenever a signature below changes; the binding refuses any other value.
VD_EXPORT int vd_abi_version() { return 1; }

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

}  // extern "C"
