/* Sixteen values at a time: activation, rounding, and the way in and out of bytes. */

#ifndef PTQ_VECTORS_H
#define PTQ_VECTORS_H

#include <immintrin.h>

#include "program.h"

#define ALWAYS static inline __attribute__((always_inline))

/* sums += four products a lane. An instruction of its own: compilers otherwise copy the sums from register to register. */
ALWAYS void add_products(__m512i *sums, __m512i four, __m512i weights) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(four), "v"(weights));
}

/* 2^t to 2.6e-6 of the value: 2^n 2^f with f in -1/2..1/2, and 2^f by the polynomial of degree 4 whose largest relative
   error is least (Remez). */
ALWAYS __m512 power_of_two(__m512 t) {
    __m512 n = _mm512_roundscale_ps(t, 8), f = _mm512_sub_ps(t, n);
    __m512 y = _mm512_set1_ps(0.009570102f);
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.05591786f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.24024744f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.6931218f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(0.9999993f));
    return _mm512_scalef_ps(y, n);
}

/* 1 / x: an estimate and one step of Newton's. */
ALWAYS __m512 inverse(__m512 x) {
    const __m512 y = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(2.0f)));
}

/* 1 / (1 + exp(-x)), to 3e-6 of the value: less than a thousandth of a step of 255. */
ALWAYS __m512 sigmoid(__m512 x) {
    __m512 t = _mm512_min_ps(_mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), _mm512_set1_ps(100.0f));
    return inverse(_mm512_add_ps(_mm512_set1_ps(1.0f), power_of_two(t)));
}

/* x times the share of a normal distribution that lies below it. The error function to 1.5e-7 by Hastings' rational
   approximation (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26). */
ALWAYS __m512 gelu(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
    const __m512 t = inverse(_mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f));
    /* Above x: half of exp(-z^2) t y; x keeps the rest of itself where it is positive, and that where it is not. */
    const __m512 e = power_of_two(_mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-1.44269504f)));
    const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(y, t), e), _mm512_mul_ps(x, _mm512_set1_ps(0.5f)));
    const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(tail, positive, x, tail);
}

/* The same by a hyperbolic tangent: x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)). */
ALWAYS __m512 gelu_tanh(__m512 x) {
    const __m512 square = _mm512_mul_ps(x, x);
    const __m512 inner = _mm512_fmadd_ps(square, _mm512_set1_ps(0.07135482f), _mm512_set1_ps(1.59576912f));
    return _mm512_mul_ps(x, sigmoid(_mm512_mul_ps(x, inner)));
}

/* Not inlined: models that have none of these should not carry them through every loop. */
static __attribute__((noinline, unused)) __m512 activate_seldom(__m512 x, int activation) {
    if (activation == GELU) return gelu(x);
    if (activation == GELU_TANH) return gelu_tanh(x);
    if (activation == LEAKY_RELU) return _mm512_max_ps(x, _mm512_mul_ps(x, _mm512_set1_ps(0.01f)));
    const __m512 two = _mm512_set1_ps(2.0f); /* tanh */
    return _mm512_fmsub_ps(two, sigmoid(_mm512_mul_ps(two, x)), _mm512_set1_ps(1.0f));
}

ALWAYS __m512 activate(__m512 x, int activation) {
    if (activation == HARDSWISH) {
        __m512 gate = _mm512_min_ps(
            _mm512_max_ps(_mm512_add_ps(x, _mm512_set1_ps(3.0f)), _mm512_setzero_ps()), _mm512_set1_ps(6.0f));
        return _mm512_mul_ps(_mm512_mul_ps(x, gate), _mm512_set1_ps(1.0f / 6));
    }
    if (activation == SILU) return _mm512_mul_ps(x, sigmoid(x));
    if (activation == SIGMOID) return sigmoid(x);
    return activation == IDENTITY ? x : activate_seldom(x, activation);
}

ALWAYS __m512 bounded(__m512 real, const rounding *to) {
    return _mm512_min_ps(_mm512_max_ps(real, _mm512_set1_ps(to->floor)), _mm512_set1_ps(to->ceiling));
}

/* Sums -> real numbers or, without an activation, steps. */
ALWAYS __m512 scaled(__m512i sums, const float *scale, const float *bias) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scale), _mm512_loadu_ps(bias));
}

ALWAYS __m512 finished(__m512 y, int activation, __m512 per_step, __m512 zero) {
    return activation == IDENTITY ? y : _mm512_fmadd_ps(activate(y, activation), per_step, zero);
}

/* What 16 bytes hold, as float32. */
ALWAYS __m512 widened(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }

ALWAYS __m128i loaded(const uint8_t *from, __mmask16 which) { return _mm_maskz_loadu_epi8(which, from); }

/* Steps -> bytes, rounded half to even. */
ALWAYS __m128i stored(__m512 y, __m512i lo, __m512i hi) {
    __m512i i = _mm512_min_epi32(_mm512_max_epi32(_mm512_cvtps_epi32(y), lo), hi);
    return _mm512_cvtepi32_epi8(i);
}

/* Whole vectors without a mask: some CPUs take many cycles for a masked store of bytes. */
ALWAYS void put(uint8_t *to, __m128i bytes, __mmask16 which) {
    if (which == 0xffff) _mm_storeu_si128((__m128i *)to, bytes);
    else _mm_mask_storeu_epi8(to, which, bytes);
}

ALWAYS __mmask16 first(int count) {
    return count >= 16 ? (__mmask16)0xffff : count <= 0 ? (__mmask16)0 : (__mmask16)((1u << count) - 1);
}

ALWAYS void put_64(uint8_t *to, __m512i bytes, __mmask64 which) {
    if (which == ~(__mmask64)0) _mm512_storeu_si512(to, bytes);
    else _mm512_mask_storeu_epi8(to, which, bytes);
}

ALWAYS __mmask64 first_64(int count) { return count >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1; }

#endif
