// Sums and an exact draw of one class of tokens, written once and compiled for each instruction
// set: a level header includes this text behind row_scan.inc.h. Hence no include guard.
//
// A draw is a race: token v wins where -log(u_v) / exp(x_v) is smallest, u_v being its uniform
// number, which is where x_v plus Gumbel noise is largest. -log(u) >= 1 - u, so most tokens have
// lost without their logarithm: it is taken of the few that may still win.

inline constexpr int kRace = 256;
static_assert(kRace % Vec::kLanes == 0);

// The numbers of vllm_diffusion/denoise/random.py: the upper 23 bits, and a half.
inline uint32_t draw_bits(uint64_t key, int32_t token) {
  uint64_t z = key + static_cast<uint64_t>(static_cast<int64_t>(token) + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>((z ^ (z >> 31)) >> 41);
}

inline double time_of(uint32_t bits, float weight) {
  return -std::log((bits + 0.5) * 0x1p-23) / weight;
}

template <class Elem>
float tempered_max(const Elem* x, int64_t size, float temperature) {
  F top = Vec::set1(-kInf);
  int64_t i = 0;
  for (; i + Vec::kLanes <= size; i += Vec::kLanes) top = Vec::max(Vec::load(x + i), top);
  float found = Vec::reduce_max(top);
  for (; i < size; ++i) found = std::max(found, to_float(x[i]));
  return found / temperature;
}

// `x` and `token` hold the class's `size` tokens.
template <class Elem>
void draw_class(const void* entries, const int32_t* token, int64_t size, const DrawRow& row,
                DrawState& out) {
  const Elem* x = static_cast<const Elem*>(entries);
  out = DrawState{};
  const float top = tempered_max(x, size, row.temperature);
  if (top == -kInf) return;
  // A class of which nothing is left is drawn from where no text is left without it.
  const bool is_cut = top < row.lowest;
  const float bound = is_cut ? -kInf : row.lowest;
  double sum = 0.0, best = std::numeric_limits<double>::infinity();
  float bar = kInf;
  alignas(64) float weight[kRace];
  alignas(64) uint32_t bits[kRace];
  for (int64_t begin = 0; begin < size; begin += kRace) {
    const int count = static_cast<int>(std::min<int64_t>(kRace, size - begin));
    alignas(64) float part[kRace];
    for (int i = 0; i < count; ++i) part[i] = to_float(x[begin + i]);
    for (int i = count; i % Vec::kLanes != 0; ++i) part[i] = -kInf;
    const F low = Vec::set1(kMinExponent);
    F total = Vec::set1(0.0f);
    for (int i = 0; i < count; i += Vec::kLanes) {
      F scaled = Vec::load(part + i);
      if (row.temperature != 1.0f) scaled = Vec::div(scaled, Vec::set1(row.temperature));
      const F d = Vec::max(low, Vec::sub(scaled, Vec::set1(top)));
      F e = Vec::zero_unless_above(exp_nonpositive(d), d, low);
      e = Vec::zero_if_below(e, scaled, Vec::set1(bound));
      Vec::store(weight + i, e);
      total = Vec::add(total, e);
    }
    sum += Vec::reduce_add(total);
    for (int i = 0; i < count; ++i) bits[i] = draw_bits(row.key, token[begin + i]);
    for (int i = 0; i < count; i += Vec::kLanes) {
      const unsigned may_win = Vec::less_mask(bits + i, weight + i, bar);
      for (unsigned left = may_win; left != 0; left &= left - 1) {
        const int k = i + __builtin_ctz(left);
        if (k >= count || weight[k] == 0.0f) continue;
        const double time = time_of(bits[k], weight[k]);
        if (time < best) {
          best = time;
          bar = static_cast<float>(best) * (1.0f + 0x1p-20f);
          out.token = token[begin + k];
        }
      }
    }
  }
  const double offset = double{top} - (is_cut ? kCut : 0.0);
  out.total = offset + std::log(sum);
  out.value = offset - std::log(best);
}

inline constexpr DrawFn kDraws[kNumDtypes] = {draw_class<float>, draw_class<BFloat16>,
                                              draw_class<Float16>};
