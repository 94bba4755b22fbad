/* Runs the steps of a program one after another, each of them by all threads. */

#include <omp.h>
#include <time.h>

#include "floats.h"

typedef void (*runner)(const void *, int, int);

static const runner RUN[] = {
    [PRODUCT] = (runner)run_product,  [DEPTHWISE] = (runner)run_depthwise, [QUANTIZE] = (runner)run_quantize,
    [SCALING] = (runner)run_scaling,  [ADDITION] = (runner)run_addition,   [MEAN] = (runner)run_mean,
    [MAXIMUM] = (runner)run_maximum,  [AVERAGE] = (runner)run_average,     [COPY] = (runner)run_copy,
    [INTERLEAVE] = (runner)run_interleave, [BORDER] = (runner)run_border,
    [FLOAT_PRODUCT] = (runner)run_float_product, [FLOAT_DEPTHWISE] = (runner)run_float_depthwise,
    [FLOAT_INPUT] = (runner)run_float_input, [FLOAT_SCALING] = (runner)run_float_scaling,
    [FLOAT_ADDITION] = (runner)run_float_addition, [FLOAT_POOL] = (runner)run_float_pool,
    [FLOAT_COPY] = (runner)run_float_copy, [FLOAT_INTERLEAVE] = (runner)run_float_interleave,
    [DEQUANTIZE] = (runner)run_dequantize, [FLOAT_NORM] = (runner)run_float_norm,
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* taken: seconds of each step are added there; null: no clock is read. */
void ptq_run(const step *steps, int32_t count, int32_t threads, double *taken) {
    if (threads <= 1 && !taken) {
        for (int i = 0; i < count; i++) RUN[steps[i].kind](steps[i].what, 0, 1);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num(), all = omp_get_num_threads();
        double before = taken ? seconds() : 0;
        for (int i = 0; i < count; i++) {
            RUN[steps[i].kind](steps[i].what, thread, all);
#pragma omp barrier
            if (taken && thread == 0) {
                const double now = seconds();
                taken[i] += now - before;
                before = now;
            }
        }
    }
}
