/* What the CPU can multiply at most: VNNI instructions on registers alone, none of which waits for another. */

#include <immintrin.h>
#include <omp.h>

#include "program.h"

#define SUM(i) "vpdpbusd %0, %1, %%zmm" #i "\n\t"

/* threads times: rounds times 16 instructions of 64 multiply-accumulates each. */
void ptq_multiply(int64_t rounds, int32_t threads) {
#pragma omp parallel num_threads(threads)
    {
        const __m512i signed_bytes = _mm512_set1_epi8(1), bytes = _mm512_set1_epi8(3);
        for (int64_t i = 0; i < rounds; i++)
            __asm__ volatile(SUM(8) SUM(9) SUM(10) SUM(11) SUM(12) SUM(13) SUM(14) SUM(15)
                             SUM(16) SUM(17) SUM(18) SUM(19) SUM(20) SUM(21) SUM(22) SUM(23)
                             :
                             : "v"(signed_bytes), "v"(bytes)
                             : "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17",
                               "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23");
    }
}
