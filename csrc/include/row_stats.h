// Statistics of each row of a logits matrix: argmax, its probability, the probability of the
// runner-up, entropy in nats, log-sum-exp. Level dispatch and threads; the arithmetic is in
// row_scan.inc.h and row_state.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "level_portable.h"
#include "row_state.h"
#include "scan_fn.h"

#if defined(__x86_64__)
#include "level_avx2.h"
#include "level_avx512.h"
#endif

namespace vd {

enum class Level : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };

inline Level best_level() {
#if defined(__x86_64__)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has_avx512 ? Level::kAvx512 : has_avx2 ? Level::kAvx2 : Level::kPortable;
#else
  return Level::kPortable;
#endif
}

inline ScanFn scan_for(Level level, Dtype dtype) {
  const int d = static_cast<int>(dtype);
#if defined(__x86_64__)
  if (level == Level::kAvx512) return avx512::kScans[d];
  if (level == Level::kAvx2) return avx2::kScans[d];
#endif
  (void)level;
  return portable::kScans[d];
}

struct Logits {
  const char* data;
  int64_t rows;
  int64_t columns;
  int64_t row_bytes;  // distance between rows
  Dtype dtype;
  int64_t exclude;  // column without weight, or -1

  const void* row(int64_t n) const { return data + n * row_bytes; }

  // The column torch.argmax reports for a row with a NaN or +inf.
  int64_t irregular_argmax(int64_t n) const {
    switch (dtype) {
      case Dtype::kFloat32:
        return first_irregular(static_cast<const float*>(row(n)), columns, exclude);
      case Dtype::kBFloat16:
        return first_irregular(static_cast<const BFloat16*>(row(n)), columns, exclude);
      case Dtype::kFloat16:
        return first_irregular(static_cast<const Float16*>(row(n)), columns, exclude);
    }
    return 0;
  }
};

// A thread is worth waking for this many entries (about 15 us of work).
inline constexpr int64_t kGrain = 32768;
inline constexpr int64_t kMaxThreads = 256;

inline void row_stats(const Logits& logits, const RowStatsOut& out, Level level, int num_threads) {
  const ScanFn scan = scan_for(level, logits.dtype);
  const int64_t rows = logits.rows;
  const int64_t useful = std::max<int64_t>(rows * logits.columns / kGrain, 1);
  const int64_t threads = std::min({useful, int64_t{num_threads}, kMaxThreads});
  const auto finish = [&](int64_t n, RowState& state) {
    if (state.is_irregular) state.index = logits.irregular_argmax(n);
    out.write(n, state);
  };

  if (rows >= threads || rows == 0) {
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(threads)) if (threads > 1)
    for (int64_t n = 0; n < rows; ++n) {
      RowState state;
      scan(logits.row(n), 0, logits.columns, logits.exclude, state);
      finish(n, state);
    }
    return;
  }

  // Fewer rows than threads: cut every row in segments, joined in order at the end.
  const int64_t segments = (threads + rows - 1) / rows;
  const int64_t width = (logits.columns / segments / 64 + 1) * 64;
  RowState parts[2 * kMaxThreads];
#pragma omp parallel for schedule(static) num_threads(static_cast<int>(threads))
  for (int64_t task = 0; task < rows * segments; ++task) {
    const int64_t begin = task % segments * width;
    const int64_t end = std::min(begin + width, logits.columns);
    scan(logits.row(task / segments), begin, end, logits.exclude, parts[task]);
  }
  for (int64_t n = 0; n < rows; ++n) {
    RowState& state = parts[n * segments];
    for (int64_t k = 1; k < segments; ++k) state.join(parts[n * segments + k]);
    finish(n, state);
  }
}

}  // namespace vd
