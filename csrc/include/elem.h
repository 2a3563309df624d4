// Element types of a logits row, and their exact conversion to float.
#pragma once

#include <cstdint>
#include <cstring>

namespace vd {

enum class Dtype : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };
inline constexpr int kNumDtypes = 3;

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

inline float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline float to_float(float x) { return x; }

inline float to_float(BFloat16 x) { return float_from_bits(uint32_t{x.bits} << 16); }

inline float to_float(Float16 x) {
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {  // infinity or NaN
    return float_from_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // Moving the exponent field by 13 bits scales by 2^-112, for subnormals too; undo it.
  return float_from_bits(sign | magnitude << 13) * 0x1p112f;
}

// The value that takes an entry out of a softmax.
template <class Elem>
Elem minus_infinity();

template <>
inline float minus_infinity<float>() {
  return -__builtin_inff();
}

template <>
inline BFloat16 minus_infinity<BFloat16>() {
  return {0xff80u};
}

template <>
inline Float16 minus_infinity<Float16>() {
  return {0xfc00u};
}

}  // namespace vd
