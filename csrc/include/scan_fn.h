// The seam between the driver and the levels.
#pragma once

#include <cstdint>

namespace vd {

struct RowState;

// Scans columns [begin, end) of the row at `row`, without column `exclude`, into `state`.
using ScanFn = void (*)(const void* row, int64_t begin, int64_t end, int64_t exclude,
                        RowState& state);

}  // namespace vd
