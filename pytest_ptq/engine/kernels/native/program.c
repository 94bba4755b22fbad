/* Runs the steps of a program one after another, each of them by all threads. */

#include <omp.h>

#include "program.h"

typedef void (*runner)(const void *, int, int);

static const runner RUN[] = {
    [PRODUCT] = (runner)run_product,  [DEPTHWISE] = (runner)run_depthwise, [QUANTIZE] = (runner)run_quantize,
    [SCALING] = (runner)run_scaling,  [ADDITION] = (runner)run_addition,   [MEAN] = (runner)run_mean,
    [MAXIMUM] = (runner)run_maximum,  [AVERAGE] = (runner)run_average,     [COPY] = (runner)run_copy,
    [INTERLEAVE] = (runner)run_interleave, [BORDER] = (runner)run_border,
};

void ptq_run(const step *steps, int32_t count, int32_t threads) {
    if (threads <= 1) {
        for (int i = 0; i < count; i++) RUN[steps[i].kind](steps[i].what, 0, 1);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), all = omp_get_num_threads();
        for (int i = 0; i < count; i++) {
            RUN[steps[i].kind](steps[i].what, thread, all);
#pragma omp barrier
        }
    }
}
