/* Maximum and mean over windows, and the mean over whole images. */

#include "places.h"

void run_maximum(const maximum *m, int thread, int threads) {
    const share mine = share_of((int64_t)m->y.images * m->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *image = m->x.data + line / m->y.rows * m->x.image;
        uint8_t *y = line_of(&m->y, line);
        const int row = (int)(line % m->y.rows);
        for (int c = 0; c < m->y.columns; c++) {
            const window w = window_of(&m->of, &m->x, &m->y, row, c);
            for (int k = 0; k < m->y.channels; k += 64) {
                const __mmask64 which = first_64(m->y.channels - k);
                __m512i best = _mm512_setzero_si512();
                for (int r = w.r0; r < w.r1; r++)
                    for (int j = w.c0; j < w.c1; j++) {
                        const uint8_t *x = image + r * m->x.row + j * m->x.pixel + k;
                        best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(which, x));
                    }
                put_64(y + c * m->y.pixel + k, best, which);
            }
        }
    }
}

ALWAYS __m512i sum_of(const uint8_t *image, const view *x, window w, int channel, __mmask16 which) {
    __m512i sums = _mm512_setzero_si512();
    for (int r = w.r0; r < w.r1; r++)
        for (int j = w.c0; j < w.c1; j++) {
            const uint8_t *from = image + r * x->row + j * x->pixel + channel;
            sums = _mm512_add_epi32(sums, _mm512_cvtepu8_epi32(loaded(from, which)));
        }
    return sums;
}

void run_average(const average *a, int thread, int threads) {
    const __m512i hi = _mm512_set1_epi32(a->hi), lo = _mm512_setzero_si512();
    const share mine = share_of((int64_t)a->y.images * a->y.rows, thread, threads);
    for (int64_t line = mine.begin; line < mine.end; line++) {
        const uint8_t *image = a->x.data + line / a->y.rows * a->x.image;
        uint8_t *y = line_of(&a->y, line);
        const int row = (int)(line % a->y.rows);
        for (int c = 0; c < a->y.columns; c++) {
            const window w = window_of(&a->of, &a->x, &a->y, row, c);
            const int count = (w.r1 - w.r0) * (w.c1 - w.c0);
            const float gain = a->gain / (float)(a->divisor ? a->divisor : count);
            const __m512 per_sum = _mm512_set1_ps(gain);
            const __m512 offset = _mm512_set1_ps(a->zero - (float)count * a->x_zero * gain);
            for (int k = 0; k < a->y.channels; k += 16) {
                const __mmask16 which = first(a->y.channels - k);
                const __m512 sums = _mm512_cvtepi32_ps(sum_of(image, &a->x, w, k, which));
                const __m512 mean = _mm512_fmadd_ps(sums, per_sum, offset);
                if (a->real) _mm512_mask_storeu_ps(y + c * a->y.pixel + 4 * k, which, mean);
                else put(y + c * a->y.pixel + k, stored(mean, lo, hi), which);
            }
        }
    }
}

void run_mean(const mean *m, int thread, int threads) {
    const __m512 gain = _mm512_set1_ps(m->gain), zero = _mm512_set1_ps(m->zero);
    const __m512i hi = _mm512_set1_epi32(m->hi), lo = _mm512_setzero_si512();
    const window all = {0, m->x.rows, 0, m->x.columns};
    const int blocks = (m->x.channels + 15) / 16;
    const share mine = share_of((int64_t)m->x.images * blocks, thread, threads);
    for (int64_t i = mine.begin; i < mine.end; i++) {
        const int64_t image = i / blocks;
        const int k = (int)(i % blocks) * 16;
        const __mmask16 which = first(m->x.channels - k);
        const __m512i sums = sum_of(m->x.data + image * m->x.image, &m->x, all, k, which);
        const __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), gain, zero);
        if (m->real) _mm512_mask_storeu_ps(m->y.data + image * m->y.image + 4 * k, which, y);
        else put(m->y.data + image * m->y.image + k, stored(y, lo, hi), which);
    }
}
