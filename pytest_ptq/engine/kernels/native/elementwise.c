/* Steps without weights, value by value. */

#include <string.h>

#include "vectors.h"

ALWAYS void put_16(uint8_t *y, __m512 steps, __m512i hi, __mmask16 which) {
    put(y, stored(steps, _mm512_setzero_si512(), hi), which);
}

/* Three planes -> pixels of four bytes, the fourth zero; channels beside each other 16 at a time; any other layout byte
   by byte. */
void run_quantize(const quantize *q, int thread, int threads) {
    const __m512 per_step = _mm512_set1_ps(q->per_step), zero = _mm512_set1_ps(q->zero);
    const __m512i lo = _mm512_setzero_si512(), hi = _mm512_set1_epi32(q->hi);
    const share mine = share_of((int64_t)q->y.images * q->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const float *x = q->x + line / q->y.rows * q->image + line % q->y.rows * q->row;
        uint8_t *y = line_of(&q->y, line);
        int c = 0;
        if (q->y.channels == 3 && q->y.pixel == 4 && q->column == 1)
            for (; c + 16 <= q->y.columns; c += 16) {
                __m512i all = _mm512_setzero_si512();
                for (int plane = 2; plane >= 0; plane--) {
                    __m512 v = _mm512_loadu_ps(x + plane * q->channel + c);
                    __m512i i = _mm512_cvtps_epi32(_mm512_add_ps(_mm512_mul_ps(v, per_step), zero));
                    i = _mm512_min_epi32(_mm512_max_epi32(i, lo), hi);
                    all = _mm512_or_si512(_mm512_slli_epi32(all, 8), i);
                }
                _mm512_storeu_si512(y + 4 * c, all);
            }
        if (q->channel == 1)
            for (; c < q->y.columns; c++)
                for (int k = 0; k < q->y.channels; k += 16) {
                    const __mmask16 which = first(q->y.channels - k);
                    const __m512 v = _mm512_maskz_loadu_ps(which, x + c * q->column + k);
                    const __m512 steps = _mm512_add_ps(_mm512_mul_ps(v, per_step), zero);
                    put_16(y + c * q->y.pixel + k, steps, hi, which);
                }
        for (; c < q->y.columns; c++)
            for (int k = 0; k < q->y.channels; k++) {
                __m512 v = _mm512_set1_ps(x[k * q->channel + c * q->column]);
                __m512i i = _mm512_cvtps_epi32(_mm512_add_ps(_mm512_mul_ps(v, per_step), zero));
                i = _mm512_min_epi32(_mm512_max_epi32(i, lo), hi);
                y[c * q->y.pixel + k] = (uint8_t)_mm512_cvtsi512_si32(i);
            }
    }
}

void run_dequantize(const dequantize *d, int thread, int threads) {
    const __m512 scale = _mm512_set1_ps(d->scale), zero = _mm512_set1_ps(d->zero);
    const share mine = share_of((int64_t)d->y.images * d->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&d->x, line);
        uint8_t *y = line_of(&d->y, line);
        for (int c = 0; c < d->y.columns; c++, x += d->x.pixel, y += d->y.pixel)
            for (int k = 0; k < d->y.channels; k += 16) {
                const __mmask16 which = first(d->y.channels - k);
                const __m512 v = _mm512_mul_ps(_mm512_sub_ps(widened(loaded(x + k, which)), zero), scale);
                _mm512_mask_storeu_ps(y + 4 * k, which, v);
            }
    }
}

void run_scaling(const scaling *s, int thread, int threads) {
    const __m512 gain = _mm512_set1_ps(s->gain), zero = _mm512_set1_ps(s->zero);
    const __m512 x_zero = _mm512_set1_ps(s->x_zero), factor_zero = _mm512_set1_ps(s->factor_zero);
    const __m512i hi = _mm512_set1_epi32(s->hi);
    const share mine = share_of((int64_t)s->y.images * s->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&s->x, line), *f = s->factor.data + line / s->y.rows * s->factor.image;
        uint8_t *y = line_of(&s->y, line);
        for (int k = 0; k < s->y.channels; k += 16) {
            const __mmask16 which = first(s->y.channels - k);
            const __m512 factor = _mm512_mul_ps(_mm512_sub_ps(widened(loaded(f + k, which)), factor_zero), gain);
            const __m512 offset = _mm512_fnmadd_ps(factor, x_zero, zero);
            for (int c = 0; c < s->y.columns; c++) {
                const __m512 v = widened(loaded(x + c * s->x.pixel + k, which));
                put_16(y + c * s->y.pixel + k, _mm512_fmadd_ps(v, factor, offset), hi, which);
            }
        }
    }
}

void run_addition(const addition *a, int thread, int threads) {
    const __m512 a_gain = _mm512_set1_ps(a->a_gain), b_gain = _mm512_set1_ps(a->b_gain);
    const __m512 zero = _mm512_set1_ps(a->zero);
    const __m512i hi = _mm512_set1_epi32(a->hi);
    const share mine = share_of((int64_t)a->y.images * a->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *one = line_of(&a->a, line), *two = line_of(&a->b, line);
        uint8_t *y = line_of(&a->y, line);
        for (int c = 0; c < a->y.columns; c++)
            for (int k = 0; k < a->y.channels; k += 16) {
                const __mmask16 which = first(a->y.channels - k);
                const __m512 v = _mm512_fmadd_ps(widened(loaded(one + c * a->a.pixel + k, which)), a_gain, zero);
                const __m512 w = widened(loaded(two + c * a->b.pixel + k, which));
                put_16(y + c * a->y.pixel + k, _mm512_fmadd_ps(w, b_gain, v), hi, which);
            }
    }
}

/* A table of 256 bytes at 64 places. */
ALWAYS __m512i looked_up(const uint8_t *table, __m512i at) {
#ifdef __AVX512VBMI__
    const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), at, _mm512_loadu_si512(table + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), at, _mm512_loadu_si512(table + 192));
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high);
#else
    uint8_t bytes[64];
    _mm512_storeu_si512(bytes, at);
    for (int i = 0; i < 64; i++) bytes[i] = table[bytes[i]];
    return _mm512_loadu_si512(bytes);
#endif
}

void run_copy(const copy *p, int thread, int threads) {
    const share mine = share_of((int64_t)p->y.images * p->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&p->x, line);
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++, x += p->x.pixel, y += p->y.pixel)
            for (int k = 0; k < p->y.channels; k += 64) {
                const __mmask64 which = first_64(p->y.channels - k);
                __m512i v = _mm512_maskz_loadu_epi8(which, x + k);
                put_64(y + k, p->table ? looked_up(p->table, v) : v, which);
            }
    }
}

/* 32 bytes, each in two. */
ALWAYS __m512i half_of(const uint8_t *from, const uint8_t *table, __mmask32 which) {
    __m512i v = _mm512_castsi256_si512(_mm256_maskz_loadu_epi8(which, from));
    if (table) v = looked_up(table, v);
    return _mm512_cvtepu8_epi16(_mm512_castsi512_si256(v));
}

/* Channels of two views in turn. */
void run_interleave(const interleave *p, int thread, int threads) {
    const share mine = share_of((int64_t)p->y.images * p->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *a = line_of(&p->a, line), *b = line_of(&p->b, line);
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++, a += p->a.pixel, b += p->b.pixel, y += p->y.pixel)
            for (int k = 0; k < p->a.channels; k += 32) {
                const int rest = p->a.channels - k;
                const __mmask32 which = rest >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << rest) - 1;
                const __m512i v = half_of(a + k, p->a_table, which), w = half_of(b + k, p->b_table, which);
                _mm512_mask_storeu_epi16(y + 2 * k, which, _mm512_or_si512(v, _mm512_slli_epi16(w, 8)));
            }
    }
}

/* Fills what lies around the images of a view. */
void run_border(const border *b, int thread, int threads) {
    const view *y = &b->y;
    const share mine = share_of((int64_t)y->images * (y->rows + 2 * b->rows), thread, threads);
    const int64_t side = b->columns * y->pixel;
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t row = i % (y->rows + 2 * b->rows) - b->rows;
        uint8_t *from = y->data + i / (y->rows + 2 * b->rows) * y->image + row * y->row - side;
        if (row < 0 || row >= y->rows) memset(from, b->value, (size_t)(y->columns * y->pixel + 2 * side));
        else {
            memset(from, b->value, (size_t)side);
            memset(from + side + y->columns * y->pixel, b->value, (size_t)side);
        }
    }
}
