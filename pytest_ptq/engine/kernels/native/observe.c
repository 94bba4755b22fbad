/* A histogram of float32 values that lie in memory run after run. */

#include <immintrin.h>
#include <omp.h>
#include <string.h>

#include "program.h"

enum { BINS = 4096, ZEROS = BINS, ROW = BINS + 16, LANES = 4, AT_ONCE = 64 };

/* Neighbours go to different tables: to add to one number twice in a row means to wait for it. */
static void count_run(const float *x, int64_t n, float bins_a_unit, uint32_t tables[LANES][ROW]) {
    const __m512 unit = _mm512_set1_ps(bins_a_unit);
    int32_t at[AT_ONCE];
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        const int64_t size = n - i < AT_ONCE ? n - i : AT_ONCE;
        for (int64_t j = 0; j < size; j += 16) {
            const __mmask16 some = size - j < 16 ? (__mmask16)((1u << (size - j)) - 1) : (__mmask16)0xffff;
            const __m512 v = _mm512_maskz_loadu_ps(some, x + i + j);
            const __mmask16 zero = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_EQ_OQ);
            const __m512i bin = _mm512_cvt_roundps_epi32(_mm512_mul_ps(v, unit), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
            const __m512i slot = _mm512_add_epi32(bin, _mm512_set1_epi32(BINS / 2));
            _mm512_storeu_si512(at + j, _mm512_mask_mov_epi32(slot, zero, _mm512_set1_epi32(ZEROS)));
        }
        int64_t j = 0;
        for (; j + LANES <= size; j += LANES)
            for (int lane = 0; lane < LANES; lane++) tables[lane][at[j + lane]]++;
        for (; j < size; j++) tables[0][at[j]]++;
    }
}

/* x: images of `values` each, in runs of `run` values of which every so-manieth counts, from `first` on. All values lie
   within BINS / 2 / bins_a_unit of zero, this excluded. counts: of BINS bins, to which each value adds `every`, as many as
   it stands for; exact zeros are left out. */
void ptq_count(const float *x, int64_t images, int64_t values, int64_t run, int64_t first, int64_t every,
               float bins_a_unit, int32_t threads, double *counts) {
    const int64_t runs = (values + run - 1) / run, chosen = (runs - first + every - 1) / every;
#pragma omp parallel num_threads(threads)
    {
        uint32_t tables[LANES][ROW];
        memset(tables, 0, sizeof tables);
        const int64_t all = images * chosen, thread = omp_get_thread_num(), of = omp_get_num_threads();
        for (int64_t i = all * thread / of; i < all * (thread + 1) / of; i++) {
            const int64_t start = (first + i % chosen * every) * run;
            count_run(x + i / chosen * values + start, values - start < run ? values - start : run, bins_a_unit, tables);
        }
#pragma omp critical
        for (int bin = 0; bin < BINS; bin++) {
            int64_t found = 0;
            for (int lane = 0; lane < LANES; lane++) found += tables[lane][bin];
            counts[bin] += (double)(found * every);
        }
    }
}
