/* Steps without weights in float32. */

#include <float.h>
#include <math.h>

#include "floats.h"

#include "places.h"

ALWAYS __m512 got(const uint8_t *from, __mmask16 which) { return _mm512_maskz_loadu_ps(which, from); }

/* Planes -> pixels. */
void run_float_input(const float_input *q, int thread, int threads) {
    const share mine = share_of((int64_t)q->y.images * q->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const float *x = q->x + line / q->y.rows * q->image + line % q->y.rows * q->row;
        uint8_t *y = line_of(&q->y, line);
        int c = 0;
        if (q->y.channels == 3 && q->y.pixel == 16 && q->column == 1)
            for (; c + 4 <= q->y.columns; c += 4) {
                __m128 r0 = _mm_loadu_ps(x + c), r1 = _mm_loadu_ps(x + q->channel + c);
                __m128 r2 = _mm_loadu_ps(x + 2 * q->channel + c), r3 = _mm_setzero_ps();
                _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
                float *to = (float *)(y + 16 * c);
                _mm_storeu_ps(to, r0), _mm_storeu_ps(to + 4, r1), _mm_storeu_ps(to + 8, r2), _mm_storeu_ps(to + 12, r3);
            }
        for (; c < q->y.columns; c++)
            for (int k = 0; k < q->y.pixel / 4; k++)
                ((float *)(y + c * q->y.pixel))[k] = k < q->y.channels ? x[k * q->channel + c * q->column] : 0.0f;
    }
}

void run_float_scaling(const float_scaling *s, int thread, int threads) {
    const share mine = share_of((int64_t)s->y.images * s->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&s->x, line), *f = s->factor.data + line / s->y.rows * s->factor.image;
        uint8_t *y = line_of(&s->y, line);
        for (int c = 0; c < s->y.columns; c++, x += s->x.pixel, y += s->y.pixel)
            for (int k = 0; k < s->y.channels; k += 16) {
                const __mmask16 which = first(s->y.channels - k);
                const __m512 v = _mm512_mul_ps(got(x + 4 * k, which), got(f + 4 * k, which));
                _mm512_mask_storeu_ps(y + 4 * k, which, v);
            }
    }
}

void run_float_addition(const float_addition *a, int thread, int threads) {
    const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
    const share mine = share_of((int64_t)a->y.images * a->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *one = line_of(&a->a, line), *two = line_of(&a->b, line);
        uint8_t *y = line_of(&a->y, line);
        for (int c = 0; c < a->y.columns; c++, one += a->a.pixel, two += a->b.pixel, y += a->y.pixel)
            for (int k = 0; k < a->y.channels; k += 16) {
                const __mmask16 which = first(a->y.channels - k);
                const __m512 v = _mm512_add_ps(got(one + 4 * k, which), got(two + 4 * k, which));
                _mm512_mask_storeu_ps(y + 4 * k, which, _mm512_min_ps(_mm512_max_ps(v, lo), hi));
            }
    }
}

ALWAYS __m512 pooled(const float_pool *p, const uint8_t *image, window w, int channel, __mmask16 which) {
    __m512 found = _mm512_set1_ps(p->maximum ? -FLT_MAX : 0.0f);
    for (int r = w.r0; r < w.r1; r++)
        for (int j = w.c0; j < w.c1; j++) {
            const __m512 v = got(image + r * p->x.row + j * p->x.pixel + 4 * channel, which);
            found = p->maximum ? _mm512_max_ps(found, v) : _mm512_add_ps(found, v);
        }
    return found;
}

void run_float_pool(const float_pool *p, int thread, int threads) {
    const int blocks = (p->y.channels + 15) / 16;
    const share mine = share_of((int64_t)p->y.images * p->y.rows * blocks, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t line = i / blocks;
        const int k = (int)(i % blocks) * 16, row = (int)(line % p->y.rows);
        const __mmask16 which = first(p->y.channels - k);
        const uint8_t *image = p->x.data + line / p->y.rows * p->x.image;
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++) {
            const window w = window_of(&p->of, &p->x, &p->y, row, c);
            __m512 v = pooled(p, image, w, k, which);
            const int count = p->divisor ? p->divisor : (w.r1 - w.r0) * (w.c1 - w.c0);
            if (!p->maximum) v = _mm512_mul_ps(v, _mm512_set1_ps(1.0f / (float)count));
            _mm512_mask_storeu_ps(y + c * p->y.pixel + 4 * k, which, v);
        }
    }
}

void run_float_copy(const float_copy *p, int thread, int threads) {
    const __m512 lo = _mm512_set1_ps(p->lo), hi = _mm512_set1_ps(p->hi);
    const share mine = share_of((int64_t)p->y.images * p->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&p->x, line);
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++, x += p->x.pixel, y += p->y.pixel)
            for (int k = 0; k < p->y.channels; k += 16) {
                const __mmask16 which = first(p->y.channels - k);
                const __m512 v = activate(got(x + 4 * k, which), p->activation);
                _mm512_mask_storeu_ps(y + 4 * k, which, _mm512_min_ps(_mm512_max_ps(v, lo), hi));
            }
    }
}

void run_float_interleave(const float_interleave *p, int thread, int threads) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const share mine = share_of((int64_t)p->y.images * p->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *a = line_of(&p->a, line), *b = line_of(&p->b, line);
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++, a += p->a.pixel, b += p->b.pixel, y += p->y.pixel)
            for (int k = 0; k < p->a.channels; k += 16) {
                const int left = p->a.channels - k;
                const __m512 v = got(a + 4 * k, first(left)), w = got(b + 4 * k, first(left));
                _mm512_mask_storeu_ps(y + 8 * k, first(2 * left), _mm512_permutex2var_ps(v, low, w));
                _mm512_mask_storeu_ps(y + 8 * k + 64, first(2 * left - 16), _mm512_permutex2var_ps(v, high, w));
            }
    }
}

/* The variance in a second pass: a mean that is large beside it costs no digits. */
ALWAYS void norm_of_pixel(const float_norm *p, const uint8_t *x, uint8_t *y) {
    const int channels = p->y.channels;
    __m512 sums = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int k = 0; k < channels; k += 16) sums = _mm512_add_ps(sums, got(x + 4 * k, first(channels - k)));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sums) / (float)channels);
    for (int k = 0; k < channels; k += 16) {
        const __mmask16 which = first(channels - k);
        const __m512 v = _mm512_maskz_sub_ps(which, got(x + 4 * k, which), mean);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    const __m512 gain = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)channels + p->eps));
    for (int k = 0; k < channels; k += 16) {
        const __mmask16 which = first(channels - k);
        const __m512 v = _mm512_mul_ps(_mm512_sub_ps(got(x + 4 * k, which), mean), gain);
        const __m512 weight = _mm512_maskz_loadu_ps(which, p->weight + k);
        const __m512 bias = _mm512_maskz_loadu_ps(which, p->bias + k);
        _mm512_mask_storeu_ps(y + 4 * k, which, _mm512_fmadd_ps(v, weight, bias));
    }
}

void run_float_norm(const float_norm *p, int thread, int threads) {
    const share mine = share_of((int64_t)p->y.images * p->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *x = line_of(&p->x, line);
        uint8_t *y = line_of(&p->y, line);
        for (int c = 0; c < p->y.columns; c++) norm_of_pixel(p, x + c * p->x.pixel, y + c * p->y.pixel);
    }
}
