// Vectors of floats in the compiler's own notation: the same text becomes SSE2, AVX2, AVX-512 or NEON.
// Everything here has internal linkage, so that code for one instruction set never stands in for another's.
#pragma once

#include <cstdint>
#include <cstring>

#define CRF_INLINE inline __attribute__((always_inline))  // loops over a row's vectors must unroll into registers

namespace crf {
namespace {

template <int W>
struct Vector {
    typedef float Floats __attribute__((vector_size(W * 4)));
    typedef int32_t Ints __attribute__((vector_size(W * 4)));
    typedef uint32_t Words __attribute__((vector_size(W * 4)));
};

template <int W>
using Floats = typename Vector<W>::Floats;
template <int W>
using Ints = typename Vector<W>::Ints;
template <int W>
using Words = typename Vector<W>::Words;

template <int W>
CRF_INLINE Floats<W> load(const float* from) {
    Floats<W> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <int W>
CRF_INLINE void store(float* to, Floats<W> v) {
    std::memcpy(to, &v, sizeof v);
}

template <int W>
CRF_INLINE Floats<W> fill(float value) {
    return value - Floats<W>{};  // the compiler's notation for a broadcast
}

template <class V>
CRF_INLINE V larger(V a, V b) {
    return a > b ? a : b;
}

CRF_INLINE float largest(Floats<4> v) {
    Floats<4> w = larger(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
    w = larger(w, __builtin_shufflevector(w, w, 1, 0, 3, 2));
    return w[0];
}
CRF_INLINE float largest(Floats<8> v) {
    return largest(larger(__builtin_shufflevector(v, v, 0, 1, 2, 3), __builtin_shufflevector(v, v, 4, 5, 6, 7)));
}
CRF_INLINE float largest(Floats<16> v) {
    return largest(larger(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)));
}

CRF_INLINE float sum(Floats<4> v) {
    Floats<4> w = v + __builtin_shufflevector(v, v, 2, 3, 0, 1);
    w = w + __builtin_shufflevector(w, w, 1, 0, 3, 2);
    return w[0];
}
CRF_INLINE float sum(Floats<8> v) {
    return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
CRF_INLINE float sum(Floats<16> v) {
    return sum(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
               __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}

// Four floats with the sum of v.
CRF_INLINE Floats<4> folded(Floats<4> v) { return v; }
CRF_INLINE Floats<4> folded(Floats<8> v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
CRF_INLINE Floats<4> folded(Floats<16> v) {
    return folded(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
}

// The sums of four vectors.
CRF_INLINE Floats<4> sums(Floats<4> a, Floats<4> b, Floats<4> c, Floats<4> d) {
    const Floats<4> ab = __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
    const Floats<4> cd = __builtin_shufflevector(c, d, 0, 4, 2, 6) + __builtin_shufflevector(c, d, 1, 5, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// exp(x) for x <= 60 to 4e-6 relative, for -1 <= x <= 1 to 1e-7; 0 below -40, which no sum with a term of 1e-5 can
// tell and which keeps denormal numbers out.
template <int W>
CRF_INLINE Floats<W> exponential(Floats<W> x) {
    const Floats<W> lowest = fill<W>(-40.0f);
    const Floats<W> t = larger(x, lowest) * 1.44269504f;
    const Floats<W> magic = t + 12582912.0f;  // 1.5 * 2^23: the nearest integer ends up in the low bits
    const Floats<W> f = t - (magic - 12582912.0f);
    Floats<W> p = f * 0.00132669704f + 0.00967545975f;
    p = p * f + 0.0555074262f;
    p = p * f + 0.240221218f;
    p = p * f + 0.693146949f;
    p = p * f + 1.0f;
    const Floats<W> power = (Floats<W>)((Words<W>)p + ((Words<W>)magic << 23));
    return x < lowest ? Floats<W>{} : power;
}

// log(x) for normal x > 0 to 1e-7 absolute.
template <int W>
CRF_INLINE Floats<W> log_positive(Floats<W> x) {
    const Ints<W> bits = (Ints<W>)x - 0x3f3504f3;  // 1/sqrt(2), so that the mantissa lies around 1
    const Ints<W> exponent = bits >> 23;
    const Floats<W> z = (Floats<W>)((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
    Floats<W> p = z * 0.0874394535f - 0.143773306f;
    p = p * z + 0.149490955f;
    p = p * z - 0.16560696f;
    p = p * z + 0.199569775f;
    p = p * z - 0.250021535f;
    p = p * z + 0.333341833f;
    p = p * z - 0.49999987f;
    p = p * z + 1.0f;
    return __builtin_convertvector(exponent, Floats<W>) * 0.693147181f + p * z;
}

}  // namespace
}  // namespace crf
