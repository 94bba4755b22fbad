/* The same steps in float32: what int8 is held against, called alike. Views are of bytes, four to a number. */

#ifndef PTQ_FLOATS_H
#define PTQ_FLOATS_H

#include "program.h"

/* y = activation(sums + bias + residual), cut to lo..hi. */
typedef struct {
    view x, y, residual;
    const float *weight; /* groups, blocks, taps, steps of one input, vectors x 16 channels */
    const float *bias;   /* groups, padded */
    const int64_t *taps;
    int32_t tap_count, steps, groups, x_group, blocks, vectors, activation;
    float lo, hi;
} float_product;

typedef struct {
    view x, y;
    const float *weight; /* taps, channels */
    const float *bias;
    const int64_t *taps;
    int32_t tap_count, activation;
    float lo, hi;
} float_depthwise;

typedef struct {
    const float *x; /* NCHW */
    int64_t image, channel, row, column;
    view y;
} float_input;

typedef struct {
    view x, factor, y;
} float_scaling;

typedef struct {
    view a, b, y;
    float lo, hi;
} float_addition;

typedef struct {
    view x, y;
    windows of;
    int32_t maximum; /* or the mean */
    int32_t divisor; /* 0: the pixels of the image that lie in the window */
} float_pool;

typedef struct {
    view x, y;
    int32_t activation;
    float lo, hi;
} float_copy;

typedef struct {
    view a, b, y;
} float_interleave;

/* Every pixel less its mean, through its standard deviation, times weight, plus bias. */
typedef struct {
    view x, y;
    const float *weight, *bias;
    float eps;
} float_norm;

void run_float_product(const float_product *p, int thread, int threads);
void run_float_depthwise(const float_depthwise *d, int thread, int threads);
void run_float_input(const float_input *q, int thread, int threads);
void run_float_scaling(const float_scaling *s, int thread, int threads);
void run_float_addition(const float_addition *a, int thread, int threads);
void run_float_pool(const float_pool *p, int thread, int threads);
void run_float_copy(const float_copy *c, int thread, int threads);
void run_float_interleave(const float_interleave *p, int thread, int threads);
void run_float_norm(const float_norm *p, int thread, int threads);

#endif
