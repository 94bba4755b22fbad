/* One tile in float32, ROWS pixels by VECTORS x 16 channels; as `tile.h`. */

#define PASTE(a, b, c) a##b##x##c
#define NAME(a, b, c) PASTE(a, b, c)
#define TILE NAME(tile_, ROWS, VECTORS)

static void TILE(const float_product *p, int64_t pixel, int group, int block) {
    place at[ROWS];
    locate(&p->x, &p->y, &p->residual, pixel, ROWS, at);
    const int64_t padded = ((int64_t)group * p->blocks + block) * (16 * VECTORS);
    const float *weight = p->weight + padded * p->tap_count * p->steps;
    __m512 sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++)
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) sums[i][v] = _mm512_loadu_ps(p->bias + padded + 16 * v);
    for (int t = 0; t < p->tap_count; t++) {
        const uint8_t *x[ROWS];
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) x[i] = p->x.data + at[i].x + p->taps[t] + (int64_t)group * p->x_group;
        for (int64_t k = 0; k < p->steps; k++) {
            __m512 w[VECTORS];
#pragma GCC unroll 16
            for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_ps(weight + 16 * v);
#pragma GCC unroll 16
            for (int i = 0; i < ROWS; i++) {
                const __m512 one = _mm512_set1_ps(*(const float *)(x[i] + 4 * k));
#pragma GCC unroll 16
                for (int v = 0; v < VECTORS; v++)
                    __asm__("vfmadd231ps %2, %1, %0" : "+v"(sums[i][v]) : "v"(one), "v"(w[v]));
            }
            weight += 16 * VECTORS;
        }
    }
    const int in_group = p->y.channels / p->groups, channel = block * (16 * VECTORS);
    const int64_t whole = 4 * ((int64_t)group * in_group + channel);
    const __m512 lo = _mm512_set1_ps(p->lo), hi = _mm512_set1_ps(p->hi);
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
        const __mmask16 which = first(in_group - channel - 16 * v);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
            __m512 y = sums[i][v];
            if (p->residual.data)
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(which, p->residual.data + at[i].residual + whole + 64 * v));
            y = _mm512_min_ps(_mm512_max_ps(activate(y, p->activation), lo), hi);
            _mm512_mask_storeu_ps(p->y.data + at[i].y + whole + 64 * v, which, y);
        }
    }
}

#undef PASTE
#undef NAME
#undef TILE
