/* Depthwise convolution: 64 channels at a time, four rows of a column in each product.

   The bytes of four rows are interleaved so that a lane holds four taps of one channel, which is what vpdpbusd sums.
   Pixels beside each other share their columns. Interleaving leaves channels in an order of its own (of 128 bits, four
   by four in four vectors), in which weights, scales and biases lie too, and which packing to bytes undoes. */

#include "vectors.h"

ALWAYS __m512i row_of(const uint8_t *x, int64_t row, int number, int rows, __mmask64 which, int64_t twin) {
    if (number >= rows) return _mm512_setzero_si512();
    x += number * row;
    if (!twin) return _mm512_maskz_loadu_epi8(which, x);
    const __m256i one = _mm256_maskz_loadu_epi8((__mmask32)which, x);
    return _mm512_inserti64x4(_mm512_castsi256_si512(one), _mm256_maskz_loadu_epi8((__mmask32)which, x + twin), 1);
}

/* Up to four rows of one column, interleaved. */
ALWAYS void columns_of(__m512i v[4], const uint8_t *x, int64_t row, int rows, __mmask64 which, int64_t twin) {
    const __m512i r0 = row_of(x, row, 0, rows, which, twin), r1 = row_of(x, row, 1, rows, which, twin);
    const __m512i r2 = row_of(x, row, 2, rows, which, twin), r3 = row_of(x, row, 3, rows, which, twin);
    const __m512i low = _mm512_unpacklo_epi8(r0, r1), high = _mm512_unpackhi_epi8(r0, r1);
    const __m512i low2 = _mm512_unpacklo_epi8(r2, r3), high2 = _mm512_unpackhi_epi8(r2, r3);
    v[0] = _mm512_unpacklo_epi16(low, low2);
    v[1] = _mm512_unpackhi_epi16(low, low2);
    v[2] = _mm512_unpacklo_epi16(high, high2);
    v[3] = _mm512_unpackhi_epi16(high, high2);
}

/* 64 real numbers in the order of the channels, from the vectors' own: lane j of vector v holds 16 j + 4 v and on. */
ALWAYS void put_real(const depthwise *d, const __m512 v[4], uint8_t *y, __mmask64 which, int64_t twin) {
    const __m512 even = _mm512_shuffle_f32x4(v[0], v[1], 0x88), odd = _mm512_shuffle_f32x4(v[0], v[1], 0xdd);
    const __m512 even2 = _mm512_shuffle_f32x4(v[2], v[3], 0x88), odd2 = _mm512_shuffle_f32x4(v[2], v[3], 0xdd);
    const __m512 in_order[4] = {
        _mm512_shuffle_f32x4(even, even2, 0x88), _mm512_shuffle_f32x4(odd, odd2, 0x88),
        _mm512_shuffle_f32x4(even, even2, 0xdd), _mm512_shuffle_f32x4(odd, odd2, 0xdd)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const int half = twin && j >= 2;
        uint8_t *to = half ? y + twin + 64 * (j - 2) : y + 64 * j;
        _mm512_mask_storeu_ps(to, (__mmask16)(which >> 16 * (half ? j - 2 : j)), bounded(in_order[j], &d->to));
    }
}

/* twin: bytes from the pixel of the first 32 channels to that of the others; 0 where they are one pixel's. */
ALWAYS void put_channels(
    const depthwise *d, __m512i sums[4], uint8_t *y, int block, __mmask64 which, int64_t twin) {
    const __m512 per_step = _mm512_set1_ps(d->to.per_step), zero = _mm512_set1_ps(d->to.zero);
    __m512 found[4];
    __m512i steps[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        const int64_t at = 64 * block + 16 * v;
        found[v] = finished(scaled(sums[v], d->to.scale + at, d->to.bias + at), d->to.activation, per_step, zero);
        steps[v] = _mm512_cvtps_epi32(found[v]);
    }
    if (d->real) {
        put_real(d, found, y, which, twin);
        return;
    }
    const __m512i low = _mm512_packs_epi32(steps[0], steps[1]), high = _mm512_packs_epi32(steps[2], steps[3]);
    __m512i bytes = _mm512_packus_epi16(low, high);
    bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8((char)d->to.lo));
    bytes = _mm512_min_epu8(bytes, _mm512_loadu_si512(d->to.hi + 64 * block));
    if (twin) {
        _mm256_mask_storeu_epi8(y, (__mmask32)which, _mm512_castsi512_si256(bytes));
        _mm256_mask_storeu_epi8(y + twin, (__mmask32)which, _mm512_extracti64x4_epi64(bytes, 1));
    } else put_64(y, bytes, which);
}

#define TOGETHER 4
#define HEIGHT 3
#define WIDTH 3
#define STRIDE 1
#include "columns.h"
#undef STRIDE
#define STRIDE 2
#include "columns.h"
#undef STRIDE
#undef WIDTH
#undef HEIGHT
#define HEIGHT 5
#define WIDTH 5
#define STRIDE 1
#include "columns.h"
#undef STRIDE
#define STRIDE 2
#include "columns.h"
#undef STRIDE
#undef WIDTH
#undef HEIGHT
#define HEIGHT 7
#define WIDTH 7
#define STRIDE 1
#include "columns.h"
#undef STRIDE
#undef WIDTH
#undef HEIGHT

/* One pixel, any kernel. */
static void pixel(const depthwise *d, const uint8_t *x, uint8_t *y, int block, __mmask64 which) {
    const int quads = (d->height + 3) / 4;
    const int8_t *weight = d->weight + (int64_t)block * d->width * quads * 256;
    __m512i sums[4];
    for (int v = 0; v < 4; v++) sums[v] = _mm512_loadu_si512(d->start + 64 * block + 16 * v);
    for (int c = 0; c < d->width; c++)
        for (int q = 0; q < quads; q++, weight += 256) {
            __m512i v[4];
            columns_of(v, x + c * d->column + 4 * q * d->row, d->row, d->height - 4 * q, which, 0);
            for (int k = 0; k < 4; k++) add_products(&sums[k], v[k], _mm512_loadu_si512(weight + 64 * k));
        }
    put_channels(d, sums, y, block, which, 0);
}

typedef void (*several)(const depthwise *, const uint8_t *, uint8_t *, int, __mmask64, int64_t);

/* What computes pixels together, for this kernel; null where nothing does. */
static several together(const depthwise *d) {
    if (d->height == 3 && d->width == 3 && d->x.pixel == d->column) return columns_3_1;
    if (d->height == 3 && d->width == 3 && d->x.pixel == 2 * d->column) return columns_3_2;
    if (d->height == 5 && d->width == 5 && d->x.pixel == d->column) return columns_5_1;
    if (d->height == 5 && d->width == 5 && d->x.pixel == 2 * d->column) return columns_5_2;
    if (d->height == 7 && d->width == 7 && d->x.pixel == d->column) return columns_7_1;
    return 0;
}

/* A row of pixels by the channels of one block, `at_once` of them in each call; the last begins earlier. */
static void row_of_pixels(
    const depthwise *d, several run, int at_once, const uint8_t *x, uint8_t *y, int block, __mmask64 which,
    int64_t twin) {
    const int columns = d->y.columns, last = columns - at_once;
    for (int c = 0; c <= last; c += at_once) run(d, x + c * d->x.pixel, y + c * d->y.pixel, block, which, twin);
    if (columns % at_once) run(d, x + last * d->x.pixel, y + last * d->y.pixel, block, which, twin);
}

void run_depthwise(const depthwise *d, int thread, int threads) {
    const several run = together(d);
    const int blocks = (d->y.channels + 63) / 64, columns = d->y.columns;
    const share mine = share_of((int64_t)d->y.images * d->y.rows * blocks, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int block = (int)(i % blocks), line = (int)(i / blocks), left = d->y.channels - 64 * block;
        const __mmask64 which = first_64(left);
        const uint8_t *x = d->x.data + line / d->y.rows * d->x.image + line % d->y.rows * d->x.row + 64 * block;
        uint8_t *y = line_of(&d->y, line) + 64 * block * (d->real ? 4 : 1);
        if (run && left <= 32 && columns >= 2 * TOGETHER)
            row_of_pixels(d, run, 2 * TOGETHER, x, y, block, which, TOGETHER * d->x.pixel);
        else if (run && columns >= TOGETHER) row_of_pixels(d, run, TOGETHER, x, y, block, which, 0);
        else
            for (int c = 0; c < columns; c++) pixel(d, x + c * d->x.pixel, y + c * d->y.pixel, block, which);
    }
}
