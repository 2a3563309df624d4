// The seam between the driver and the levels.
#pragma once

#include <cstdint>

namespace vd {

struct RowState;
struct DrawRow;
struct DrawState;

// Scans columns [begin, end) of the row at `row`, without column `exclude`, into `state`.
using ScanFn = void (*)(const void* row, int64_t begin, int64_t end, int64_t exclude,
                        RowState& state);

// Sums and draws from `size` tokens of one class, ascending, of the row at `row`, without column
// `exclude`.
using DrawFn = void (*)(const void* row, const int32_t* token, int64_t size, int64_t exclude,
                        const DrawRow& how, DrawState& out);

}  // namespace vd
