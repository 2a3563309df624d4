// Scan of a part of one row, written once and compiled for each instruction set: a level header
// includes this text inside its own namespace, after its vector type `Vec`. Hence no include guard.
//
// The row is read from memory once, in chunks that stay in the first-level cache: a chunk is read
// for its maximum, for its two largest entries (only where the maximum can change them), and for
// the sums. Sums run in float32 within a chunk and in float64 across chunks.

using F = Vec::F;

inline constexpr int kBlock = 4 * Vec::kLanes;  // four independent accumulators
inline constexpr int kChunk = 1024;
static_assert(kChunk % kBlock == 0);

// Below this difference exp counts as 0: its share of a sum that holds a 1 is under 2e-38.
inline constexpr float kMinExponent = -87.0f;

// exp(d) for kMinExponent <= d <= 0; 1 at d = 0. The relative error is below 1.5e-7 + 1.4e-8 |d|
// with a fused multiply-add, 1.5e-7 + 6e-8 |d| without; large |d| have little weight.
// exp(d) = 2^n 2^r, n the integer nearest to d log2(e). Adding 1.5 * 2^23 leaves n in the low bits
// of the sum; a shift puts it on the exponent of the polynomial for 2^r, |r| <= 1/2.
inline F exp_nonpositive(F d) {
  const F log2e = Vec::set1(1.44269504f);
  const F round = Vec::set1(12582912.0f);
  const F shifted = Vec::fma(d, log2e, round);
  const F r = Vec::fma(d, log2e, Vec::sub(round, shifted));
  F p = Vec::set1(1.326472731e-3f);
  p = Vec::fma(p, r, Vec::set1(9.671512991e-3f));
  p = Vec::fma(p, r, Vec::set1(5.550733581e-2f));
  p = Vec::fma(p, r, Vec::set1(2.402224243e-1f));
  p = Vec::fma(p, r, Vec::set1(6.931470037e-1f));
  p = Vec::fma(p, r, Vec::set1(1.0f));
  return Vec::add_exponent(p, shifted);
}

// Loads a block; the order of its entries is unspecified.
template <class Elem>
void load_block(const Elem* x, F (&v)[4]) {
  Vec::load_pair(x, v[0], v[1]);
  Vec::load_pair(x + 2 * Vec::kLanes, v[2], v[3]);
}

inline float block_max(const F (&v)[4]) {
  return Vec::reduce_max(Vec::max(Vec::max(v[0], v[1]), Vec::max(v[2], v[3])));
}

template <class Elem>
float chunk_max(const Elem* x, int size) {
  F v[4], m[4];
  for (F& lanes : m) lanes = Vec::set1(-kInf);
  for (int i = 0; i < size; i += kBlock) {
    load_block(x + i, v);
    for (int k = 0; k < 4; ++k) m[k] = Vec::max(v[k], m[k]);
  }
  return block_max(m);
}

template <class Elem>
int find_first(const Elem* x, int size, float value) {
  const F wanted = Vec::set1(value);
  for (int i = 0; i < size; i += Vec::kLanes) {
    const unsigned equal = Vec::equal_mask(Vec::load(x + i), wanted);
    if (equal != 0) return i + __builtin_ctz(equal);
  }
  return 0;
}

// The largest entry of a chunk when one occurrence of its maximum is left out.
template <class Elem>
float chunk_second(const Elem* x, int size, float largest) {
  F v[4], first[4], second[4];
  for (int k = 0; k < 4; ++k) first[k] = second[k] = Vec::set1(-kInf);
  for (int i = 0; i < size; i += kBlock) {
    load_block(x + i, v);
    for (int k = 0; k < 4; ++k) {
      second[k] = Vec::max(Vec::min(v[k], first[k]), second[k]);
      first[k] = Vec::max(v[k], first[k]);
    }
  }
  for (int k = 1; k < 4; ++k) {
    second[0] = Vec::max(Vec::max(second[0], second[k]), Vec::min(first[0], first[k]));
    first[0] = Vec::max(first[0], first[k]);
  }
  // Every lane now holds its own two largest; the lanes whose first lost compete too.
  const unsigned holders = Vec::equal_mask(first[0], Vec::set1(largest));
  if ((holders & (holders - 1)) != 0) return largest;
  const F losers = Vec::replace_lanes(first[0], holders, -kInf);
  return Vec::reduce_max(Vec::max(losers, second[0]));
}

// Sums of a chunk for a reference no entry exceeds. `weighted` is NaN where the chunk holds a NaN,
// or +inf (then the reference is +inf too).
template <class Elem>
void add_chunk(const Elem* x, int size, float reference, double& sum, double& weighted) {
  const F ref = Vec::set1(reference);
  const F low = Vec::set1(kMinExponent);
  F v[4], s[4], w[4];
  for (int k = 0; k < 4; ++k) s[k] = w[k] = Vec::set1(0.0f);
  for (int i = 0; i < size; i += kBlock) {
    load_block(x + i, v);
    for (int k = 0; k < 4; ++k) {
      const F d = Vec::max(low, Vec::sub(v[k], ref));
      const F e = Vec::zero_unless_above(exp_nonpositive(d), d, low);
      s[k] = Vec::add(s[k], e);
      w[k] = Vec::fma(d, e, w[k]);  // a NaN in d always arrives here
    }
  }
  sum = Vec::reduce_add(Vec::add(Vec::add(s[0], s[1]), Vec::add(s[2], s[3])));
  weighted = Vec::reduce_add(Vec::add(Vec::add(w[0], w[1]), Vec::add(w[2], w[3])));
}

// `x` holds columns [column, column + size); size is a multiple of kBlock.
template <class Elem>
void scan_chunk(const Elem* x, int size, int64_t column, RowState& state) {
  const float largest = chunk_max(x, size);
  const float top = largest > state.first ? largest : state.first;
  const float reference = top == -kInf ? 0.0f : top;
  double sum, weighted;
  add_chunk(x, size, reference, sum, weighted);
  if (weighted != weighted) {
    state.is_irregular = true;
    return;
  }
  state.join_sums(reference, sum, weighted);
  if (largest > state.first) {
    const int64_t index = column + find_first(x, size, largest);
    state.join_top(largest, chunk_second(x, size, largest), index);
  } else if (largest > state.second) {
    state.join_top(largest, -kInf, column);
  }
}

// Scans columns [begin, end) of a row into `state`, without column `exclude`.
template <class Elem>
void scan_row(const void* row_start, int64_t begin, int64_t end, int64_t exclude,
              RowState& state) {
  const Elem* row = static_cast<const Elem*>(row_start);
  for (int64_t column = begin; column < end && !state.is_irregular; column += kChunk) {
    const int size = static_cast<int>(end - column < kChunk ? end - column : kChunk);
    const Elem* x = row + column;
    const bool is_excluding = exclude >= column && exclude < column + size;
    if (size % kBlock == 0 && !is_excluding) {
      scan_chunk(x, size, column, state);
      continue;
    }
    // An odd tail or the excluded column: work on a copy, padded with entries of weight 0.
    alignas(64) Elem copy[kChunk];
    const int padded = (size + kBlock - 1) / kBlock * kBlock;
    std::memcpy(copy, x, sizeof(Elem) * size);
    for (int i = size; i < padded; ++i) copy[i] = minus_infinity<Elem>();
    if (is_excluding) copy[exclude - column] = minus_infinity<Elem>();
    scan_chunk<Elem>(copy, padded, column, state);
  }
}

inline constexpr ScanFn kScans[kNumDtypes] = {scan_row<float>, scan_row<BFloat16>,
                                              scan_row<Float16>};
