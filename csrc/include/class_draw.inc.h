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

// No number is nearer to 1: below it no time is left to win in.
inline constexpr float kLeastTime = 0x1p-24f;

// Tempered logits of `count` tokens, -inf for those below the bound; returns the largest.
template <class Elem>
float temper_part(const Elem* x, const int32_t* token, int count, int64_t exclude,
                  const DrawRow& row, float bound, float* part) {
  for (int i = 0; i < count; ++i) part[i] = to_float(x[token[i]]);
  if (exclude >= token[0] && exclude <= token[count - 1]) {
    const int32_t* const at = std::lower_bound(token, token + count, exclude);
    if (*at == exclude) part[at - token] = -kInf;
  }
  for (int i = count; i % Vec::kLanes != 0; ++i) part[i] = -kInf;
  const F temperature = Vec::set1(row.temperature), least = Vec::set1(bound);
  const F none = Vec::set1(-kInf);
  F top = none;
  for (int i = 0; i < count; i += Vec::kLanes) {
    F scaled = Vec::load(part + i);
    if (row.temperature != 1.0f) scaled = Vec::div(scaled, temperature);
    scaled = Vec::where_below(scaled, least, none);
    Vec::store(part + i, scaled);
    top = Vec::max(scaled, top);
  }
  return Vec::reduce_max(top);
}

// exp(x - reference) of a part, in its place; returns the sum.
inline float weigh_part(int count, float reference, float* part, float& largest) {
  const F low = Vec::set1(kMinExponent), top = Vec::set1(reference);
  F total = Vec::set1(0.0f), most = Vec::set1(0.0f);
  for (int i = 0; i < count; i += Vec::kLanes) {
    const F d = Vec::max(low, Vec::sub(Vec::load(part + i), top));
    const F e = Vec::zero_unless_above(exp_nonpositive(d), d, low);
    Vec::store(part + i, e);
    total = Vec::add(total, e);
    most = Vec::max(e, most);
  }
  largest = Vec::reduce_max(most);
  return Vec::reduce_add(total);
}

// `x` is the row; `token` holds the `size` tokens of the class, ascending.
template <class Elem>
void draw_bounded(const Elem* x, const int32_t* token, int64_t size, int64_t exclude,
                  const DrawRow& row, float bound, DrawState& out) {
  // Sums and times are those of weights against a reference, the largest logit so far.
  float reference = -kInf;
  double sum = 0.0, best = std::numeric_limits<double>::infinity();
  alignas(64) float part[kRace];
  alignas(64) uint32_t bits[kRace];
  for (int64_t begin = 0; begin < size; begin += kRace) {
    const int count = static_cast<int>(std::min<int64_t>(kRace, size - begin));
    const float top = temper_part(x, token + begin, count, exclude, row, bound, part);
    if (top == -kInf) continue;
    if (top > reference) {
      const double shift = std::exp(double{reference} - double{top});
      sum *= shift;
      best /= shift;
      reference = top;
    }
    float largest;
    sum += weigh_part(count, reference, part, largest);
    float bar = static_cast<float>(best) * (1.0f + 0x1p-20f);
    if (largest * bar < kLeastTime) continue;
    for (int i = 0; i < count; ++i) bits[i] = draw_bits(row.key, token[begin + i]);
    for (int i = 0; i < count; i += Vec::kLanes) {
      unsigned may_win = Vec::less_mask(bits + i, part + i, bar);
      for (; may_win != 0; may_win &= may_win - 1) {
        const int k = i + __builtin_ctz(may_win);
        if (k >= count) break;
        const double time = time_of(bits[k], part[k]);
        if (time < best) {
          best = time;
          bar = static_cast<float>(best) * (1.0f + 0x1p-20f);
          out.token = token[begin + k];
        }
      }
    }
  }
  if (sum == 0.0) return;
  out.total = reference + std::log(sum);
  out.value = reference - std::log(best);
}

template <class Elem>
void draw_class(const void* row_start, const int32_t* token, int64_t size, int64_t exclude,
                const DrawRow& row, DrawState& out) {
  const Elem* const x = static_cast<const Elem*>(row_start);
  out = DrawState{};
  draw_bounded(x, token, size, exclude, row, row.lowest, out);
  if (out.token >= 0 || row.lowest == -kInf) return;
  // A class of which nothing is left is drawn from where no text is left without it.
  draw_bounded(x, token, size, exclude, row, -kInf, out);
  out.total -= kCut;
  out.value -= kCut;
}

inline constexpr DrawFn kDraws[kNumDtypes] = {draw_class<float>, draw_class<BFloat16>,
                                              draw_class<Float16>};
