/* The steps of an int8 program. Addresses are fixed when the program is built; images are stored channels last.

   A buffer may have a border of pixels around each image, which holds what stands for zero: a convolution then reads
   beyond its edges without asking. Strides are in bytes. Everything is uint8 unless it says otherwise. */

#ifndef PTQ_PROGRAM_H
#define PTQ_PROGRAM_H

#include <stdint.h>

enum activation { IDENTITY, HARDSWISH, SILU, SIGMOID, TANH, LEAKY_RELU, GELU, GELU_TANH };

/* How a sum becomes a stored integer: y = activation(scale * sum + bias) * per_step + zero, rounded half to even and cut
   to lo..hi. Without an activation scale and bias are in steps, and hold per_step and zero. A real number is not
   rounded, and cut to floor..ceiling. */
typedef struct {
    const float *scale, *bias; /* one a channel, padded to whole vectors */
    const uint8_t *hi;         /* likewise */
    float per_step, zero;
    int32_t activation, lo;
    float floor, ceiling;
} rounding;

/* A view of a buffer: `rows` x `columns` pixels of `images`, `channels` bytes of each. */
typedef struct {
    uint8_t *data; /* first channel of pixel (0, 0) of image 0 */
    int64_t image, row, pixel;
    int32_t images, rows, columns, channels;
} view;

/* Convolution of groups of channels; a matrix product is one of 1 x 1. */
typedef struct {
    view x, y;             /* x: at the first output's first tap, with `row` and `pixel` a stride apart */
    view residual;         /* of y's shape; data is null where there is none */
    float residual_gain;   /* of a residual's integer, in steps or, where y is float32, real */
    const int8_t *weight;  /* groups, blocks, taps, steps, vectors x 16 channels, 4 inputs */
    const int32_t *start;  /* what sums begin with: - zero point of x times the sum of the weights; groups, padded */
    const int64_t *taps;   /* offset of each tap */
    int32_t tap_count, steps, groups, x_group, blocks, vectors;
    int32_t real; /* y is float32 */
    rounding to;
} product;

/* Depthwise convolution: as many outputs as inputs. */
typedef struct {
    view x, y;
    const int8_t *weight; /* blocks of 64 channels, columns, quads of 4 rows, 4 vectors */
    const int32_t *start; /* as above, in the order of the vectors */
    int64_t row, column;  /* distance of two taps */
    int32_t height, width;
    int32_t real; /* y is float32 */
    rounding to;  /* scale and bias in the order of the vectors */
} depthwise;

typedef struct {
    const float *x; /* float32 of any strides, which are in numbers */
    int64_t image, channel, row, column;
    view y;
    float per_step, zero;
    int32_t hi;
} quantize;

/* y = scale * (x - zero), float32. */
typedef struct {
    view x, y;
    float scale, zero;
} dequantize;

/* y = gain * x * (factor - factor_zero) and so on: one factor for each image and channel. */
typedef struct {
    view x, factor, y;
    float gain, x_zero, factor_zero, zero;
    int32_t hi;
} scaling;

typedef struct {
    view a, b, y;
    float a_gain, b_gain, zero;
    int32_t hi;
} addition;

typedef struct {
    view x, y;
    float gain, zero;
    int32_t real; /* y is float32 */
    int32_t hi;
} mean;

/* What is pooled: windows that begin a stride apart or, with strides of 0, as many as y has pixels, which share x. */
typedef struct {
    int32_t height, width, stride_rows, stride_columns, pad_rows, pad_columns;
} windows;

typedef struct {
    view x, y;
    windows of;
} maximum;

/* Mean over windows; what lies beyond the edges adds nothing. */
typedef struct {
    view x, y;
    windows of;
    float gain, x_zero, zero;
    int32_t divisor; /* 0: the pixels of the image that lie in the window */
    int32_t real;    /* y is float32 */
    int32_t hi;
} average;

/* Each value by a table of 256, or as it is where that is null. */
typedef struct {
    view x, y;
    const uint8_t *table;
} copy;

/* Channels 0, 2, 4, ... of y are those of a, and the others those of b; each by its table, if it has one. */
typedef struct {
    view a, b, y;
    const uint8_t *a_table, *b_table;
} interleave;

typedef struct {
    view y;
    int32_t rows, columns, value;
} border;

enum kind {
    PRODUCT, DEPTHWISE, QUANTIZE, SCALING, ADDITION, MEAN, MAXIMUM, AVERAGE, COPY, INTERLEAVE, BORDER,
    FLOAT_PRODUCT, FLOAT_DEPTHWISE, FLOAT_INPUT, FLOAT_SCALING, FLOAT_ADDITION, FLOAT_POOL, FLOAT_COPY,
    FLOAT_INTERLEAVE, DEQUANTIZE, FLOAT_NORM
};

typedef struct {
    int32_t kind;
    const void *what;
} step;

/* One thread's share of a step. */
typedef struct {
    int64_t begin, end;
} share;

static inline share share_of(int64_t count, int thread, int threads) {
    share s = {count * thread / threads, count * (thread + 1) / threads};
    return s;
}

static inline uint8_t *line_of(const view *v, int64_t line) {
    return v->data + line / v->rows * v->image + line % v->rows * v->row;
}

void run_product(const product *p, int thread, int threads);
void run_depthwise(const depthwise *d, int thread, int threads);
void run_quantize(const quantize *q, int thread, int threads);
void run_dequantize(const dequantize *d, int thread, int threads);
void run_scaling(const scaling *s, int thread, int threads);
void run_addition(const addition *a, int thread, int threads);
void run_mean(const mean *m, int thread, int threads);
void run_maximum(const maximum *m, int thread, int threads);
void run_average(const average *a, int thread, int threads);
void run_copy(const copy *c, int thread, int threads);
void run_interleave(const interleave *p, int thread, int threads);
void run_border(const border *b, int thread, int threads);

#endif
