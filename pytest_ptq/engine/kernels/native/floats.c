/* Convolutions and products in float32. */

#include "floats.h"

#include "places.h"

enum {
    PANEL = 128 * 1024, /* bytes of input that are gone through for each block of weights */
    TOGETHER = 168,     /* pixels: whole tiles of every size */
    FEWEST = 24         /* pixels a thread, below which threads share the channels out instead */
};

#define VECTORS 1
#define ROWS 1
#include "float_tile.h"
#undef ROWS
#define ROWS 14
#include "float_tile.h"
#undef ROWS
#undef VECTORS
#define VECTORS 2
#define ROWS 1
#include "float_tile.h"
#undef ROWS
#define ROWS 12
#include "float_tile.h"
#undef ROWS
#undef VECTORS
#define VECTORS 3
#define ROWS 1
#include "float_tile.h"
#undef ROWS
#define ROWS 8
#include "float_tile.h"
#undef ROWS
#undef VECTORS
#define VECTORS 4
#define ROWS 1
#include "float_tile.h"
#undef ROWS
#define ROWS 6
#include "float_tile.h"
#undef ROWS
#undef VECTORS

typedef struct {
    int rows;
    void (*many)(const float_product *, int64_t, int, int);
    void (*one)(const float_product *, int64_t, int, int);
} tiles;

static const tiles TILES[] = {
    {14, tile_14x1, tile_1x1}, {12, tile_12x2, tile_1x2}, {8, tile_8x3, tile_1x3}, {6, tile_6x4, tile_1x4}};

static void run_block(const float_product *p, share pixels, int group, int block) {
    const tiles *of = &TILES[p->vectors - 1];
    int64_t i = pixels.begin;
    for (; i + of->rows <= pixels.end; i += of->rows) of->many(p, i, group, block);
    const int enough = pixels.end - pixels.begin >= of->rows;
    if (enough && pixels.end - i > 1) of->many(p, pixels.end - of->rows, group, block);
    else
        for (; i < pixels.end; i++) of->one(p, i, group, block);
}

void run_float_product(const float_product *p, int thread, int threads) {
    const int64_t all = (int64_t)p->y.images * p->y.rows * p->y.columns, blocks = (int64_t)p->groups * p->blocks;
    const int by_pixels = all >= FEWEST * threads;
    const share pixels = by_pixels ? share_of(all, thread, threads) : (share){0, all};
    const share channels = by_pixels ? (share){0, blocks} : share_of(blocks, thread, threads);
    int64_t chunk = PANEL / (4 * p->inputs) / TOGETHER * TOGETHER;
    if (chunk < TOGETHER) chunk = TOGETHER;
    for (int64_t from = pixels.begin; from < pixels.end;) {
        const int64_t to = pixels.end - from < chunk + FEWEST ? pixels.end : from + chunk;
        for (int64_t b = channels.begin; b < channels.end; b++)
            run_block(p, (share){from, to}, (int)(b / p->blocks), (int)(b % p->blocks));
        from = to;
    }
}

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
