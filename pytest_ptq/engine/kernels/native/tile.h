/* One tile, ROWS pixels by VECTORS x 16 channels. Included once for each size: sums must be registers, not an array. */

#define PASTE(a, b, c) a##b##x##c
#define NAME(a, b, c) PASTE(a, b, c)
#define PUT NAME(put_, ROWS, VECTORS)
#define TILE NAME(tile_, ROWS, VECTORS)

/* What the sums are stored as. channel: the tile's first, of its group; padded: the same in `start` and `scale`. */
ALWAYS void PUT(
    const product *p, __m512i sums[ROWS][VECTORS], const place *at, int group, int channel, int64_t padded,
    int activation, int adds) {
    const __m512 gain = _mm512_set1_ps(p->residual_gain);
    const __m512 per_step = _mm512_set1_ps(p->to.per_step), zero = _mm512_set1_ps(p->to.zero);
    const __m512i lo = _mm512_set1_epi32(p->to.lo);
    const int in_group = p->y.channels / p->groups;
    const int64_t whole = (int64_t)group * in_group + channel;
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
        const __mmask16 which = first(in_group - channel - 16 * v);
        const __m512 scale = _mm512_loadu_ps(p->to.scale + padded + 16 * v);
        const __m512 bias = _mm512_loadu_ps(p->to.bias + padded + 16 * v);
        const __m512i hi = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p->to.hi + padded + 16 * v)));
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
            __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i][v]), scale, bias);
            if (adds) {
                const __m128i other = loaded(p->residual.data + at[i].residual + whole + 16 * v, which);
                y = _mm512_fmadd_ps(widened(other), gain, y);
            }
            if (p->real) {
                y = bounded(activate(y, activation), &p->to);
                _mm512_mask_storeu_ps(p->y.data + at[i].y + 4 * whole + 64 * v, which, y);
                continue;
            }
            y = finished(y, activation, per_step, zero);
            put(p->y.data + at[i].y + whole + 16 * v, stored(y, lo, hi), which);
        }
    }
}

static void TILE(const product *p, int64_t pixel, int group, int block) {
    place at[ROWS];
    locate(&p->x, &p->y, &p->residual, pixel, ROWS, at);
    const int64_t padded = ((int64_t)group * p->blocks + block) * (16 * VECTORS);
    const int8_t *weight = p->weight + padded * p->tap_count * p->steps * 4;
    __m512i sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++)
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) sums[i][v] = _mm512_loadu_si512(p->start + padded + 16 * v);
    for (int t = 0; t < p->tap_count; t++) {
        const uint8_t *x[ROWS];
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) x[i] = p->x.data + at[i].x + p->taps[t] + (int64_t)group * p->x_group;
        for (int64_t k = 0; k < p->steps; k++) {
            __m512i w[VECTORS];
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(weight + 64 * v);
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; i++) {
                const __m512i four = _mm512_set1_epi32(*(const int32_t *)(x[i] + 4 * k));
#pragma GCC unroll 16
                for (int v = 0; v < VECTORS; v++) add_products(&sums[i][v], four, w[v]);
            }
            weight += 64 * VECTORS;
        }
    }
    const int channel = block * (16 * VECTORS);
    const int activation = p->to.activation;
    if (p->residual.data) PUT(p, sums, at, group, channel, padded, IDENTITY, 1);
    else if (activation == IDENTITY) PUT(p, sums, at, group, channel, padded, IDENTITY, 0);
    else PUT(p, sums, at, group, channel, padded, activation, 0);
}

#undef PASTE
#undef NAME
#undef PUT
#undef TILE
