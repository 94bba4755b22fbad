/* Depthwise convolution of TOGETHER pixels of a row by 64 channels, or of twice as many by 32 (`twin`: the bytes between
   the one half and the other). Included once for each size of kernel. */

#define PASTE(a, b, c) a##b##_##c
#define NAME(a, b, c) PASTE(a, b, c)
#define BODY NAME(body_, WIDTH, STRIDE)
#define COLUMNS NAME(columns_, WIDTH, STRIDE)
#define QUADS ((HEIGHT + 3) / 4)

ALWAYS void BODY(const depthwise *d, const uint8_t *x, uint8_t *y, int block, __mmask64 which, int64_t twin) {
    const int8_t *weight = d->weight + (int64_t)block * WIDTH * QUADS * 256;
    const int32_t *start = d->start + 64 * block;
    __m512i sums[TOGETHER][4];
#pragma GCC unroll 16
    for (int i = 0; i < TOGETHER; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) sums[i][v] = _mm512_loadu_si512(start + 16 * v);
#pragma GCC unroll 16
    for (int c = 0; c < (TOGETHER - 1) * STRIDE + WIDTH; c++)
#pragma GCC unroll 2
        for (int q = 0; q < QUADS; q++) {
            __m512i v[4];
            columns_of(v, x + c * d->column + 4 * q * d->row, d->row, HEIGHT - 4 * q, which, twin);
#pragma GCC unroll 16
            for (int i = 0; i < TOGETHER; i++) {
                const int tap = c - i * STRIDE;
                if (tap < 0 || tap >= WIDTH) continue;
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++)
                    add_products(&sums[i][k], v[k], _mm512_loadu_si512(weight + (tap * QUADS + q) * 256 + 64 * k));
            }
        }
#pragma GCC unroll 16
    for (int i = 0; i < TOGETHER; i++)
        put_channels(d, sums[i], y + i * d->y.pixel, block, which, twin ? TOGETHER * d->y.pixel : 0);
}

static void COLUMNS(const depthwise *d, const uint8_t *x, uint8_t *y, int block, __mmask64 which, int64_t twin) {
    if (twin) BODY(d, x, y, block, which, twin);
    else BODY(d, x, y, block, which, 0);
}

#undef PASTE
#undef NAME
#undef BODY
#undef COLUMNS
#undef QUADS
