/* Convolutions and products in float32. */

#include "floats.h"

#define STRUCT float_product
#define TILE_FILE "float_tile.h"
#define RUN run_float_product
#include "tiles.h"

enum { BESIDE = 4 };

/* BESIDE pixels of a row by `vectors` x 16 channels. */
ALWAYS void beside(
    const float_depthwise *d, const uint8_t *x, uint8_t *y, int channel, int vectors, int pixels, __mmask16 last) {
    __m512 sums[BESIDE][4];
    const __m512 lo = _mm512_set1_ps(d->lo), hi = _mm512_set1_ps(d->hi);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 4
        for (int i = 0; i < pixels; i++) sums[i][v] = _mm512_loadu_ps(d->bias + channel + 16 * v);
    for (int t = 0; t < d->tap_count; t++) {
        const float *weight = d->weight + (int64_t)t * ((d->y.channels + 15) / 16 * 16) + channel;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const __m512 w = _mm512_loadu_ps(weight + 16 * v);
            const __mmask16 which = v == vectors - 1 ? last : 0xffff;
#pragma GCC unroll 4
            for (int i = 0; i < pixels; i++) {
                const __m512 from = _mm512_maskz_loadu_ps(which, x + i * d->x.pixel + d->taps[t] + 64 * v);
                sums[i][v] = _mm512_fmadd_ps(from, w, sums[i][v]);
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 4
        for (int i = 0; i < pixels; i++) {
            const __m512 real = _mm512_min_ps(_mm512_max_ps(activate(sums[i][v], d->activation), lo), hi);
            _mm512_mask_storeu_ps(y + i * d->y.pixel + 64 * v, v == vectors - 1 ? last : 0xffff, real);
        }
}

typedef void (*several)(const float_depthwise *, const uint8_t *, uint8_t *, int, __mmask16);

static void many_1(const float_depthwise *d, const uint8_t *x, uint8_t *y, int c, __mmask16 last) {
    beside(d, x, y, c, 1, BESIDE, last);
}
static void many_2(const float_depthwise *d, const uint8_t *x, uint8_t *y, int c, __mmask16 last) {
    beside(d, x, y, c, 2, BESIDE, last);
}
static void many_3(const float_depthwise *d, const uint8_t *x, uint8_t *y, int c, __mmask16 last) {
    beside(d, x, y, c, 3, BESIDE, last);
}
static void many_4(const float_depthwise *d, const uint8_t *x, uint8_t *y, int c, __mmask16 last) {
    beside(d, x, y, c, 4, BESIDE, last);
}

void run_float_depthwise(const float_depthwise *d, int thread, int threads) {
    static const several MANY[] = {many_1, many_2, many_3, many_4};
    const int blocks = (d->y.channels + 63) / 64, columns = d->y.columns;
    const share mine = share_of((int64_t)d->y.images * d->y.rows * blocks, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int channel = (int)(i % blocks) * 64, line = (int)(i / blocks), left = d->y.channels - channel;
        const int vectors = left >= 64 ? 4 : (left + 15) / 16;
        const __mmask16 last = first(left - 16 * (vectors - 1));
        const uint8_t *x = d->x.data + line / d->y.rows * d->x.image + line % d->y.rows * d->x.row + 4 * channel;
        uint8_t *y = line_of(&d->y, line) + 4 * channel;
        int c = 0;
        for (; c + BESIDE <= columns; c += BESIDE)
            MANY[vectors - 1](d, x + c * d->x.pixel, y + c * d->y.pixel, channel, last);
        for (; c < columns; c++)
            for (int v = 0; v < vectors; v++)
                beside(
                    d, x + c * d->x.pixel + 64 * v, y + c * d->y.pixel + 64 * v, channel + 16 * v, 1, 1,
                    v == vectors - 1 ? last : 0xffff);
    }
}
