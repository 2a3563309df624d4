// What a row is drawn with, and what was drawn of one of its classes.
#pragma once

#include <cstdint>
#include <limits>

namespace vd {

// Nats that a class has less of which top-k, top-p and min-p leave nothing: CUT in Python.
inline constexpr double kCut = 1e4;

struct DrawRow {
  float temperature;  // above 0
  float lowest;       // tempered logits below it are left out
  uint64_t key;       // of the row's random numbers
};

struct DrawState {
  double total = -std::numeric_limits<double>::infinity();  // log of the sum of exp(x / T)
  double value = -std::numeric_limits<double>::infinity();  // largest x / T with its noise
  int64_t token = -1;                                       // and whose that is
};

}  // namespace vd
