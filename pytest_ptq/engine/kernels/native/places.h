/* Where pixels lie. */

#ifndef PTQ_PLACES_H
#define PTQ_PLACES_H

#include "vectors.h"

typedef struct {
    int64_t x, y, residual;
} place;

/* `count` pixels of y, row by row and image by image, and what belongs to them in x and the residual. */
ALWAYS void locate(const view *x, const view *y, const view *residual, int64_t pixel, int count, place *at) {
    const int columns = y->columns, rows = y->rows;
    int column = (int)pixel % columns, line = (int)pixel / columns, row = line % rows, image = line / rows;
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
        at[i].x = image * x->image + row * x->row + column * x->pixel;
        at[i].y = image * y->image + row * y->row + column * y->pixel;
        at[i].residual = image * residual->image + row * residual->row + column * residual->pixel;
        if (++column == columns) {
            column = 0;
            if (++row == rows) row = 0, image++;
        }
    }
}

typedef struct {
    int r0, r1, c0, c1;
} window;

/* What of the window of y's pixel lies inside the image: nothing, perhaps. */
static inline window window_of(const windows *of, const view *x, const view *y, int row, int column) {
    if (!of->stride_rows)
        return (window){
            row * x->rows / y->rows, ((row + 1) * x->rows + y->rows - 1) / y->rows, column * x->columns / y->columns,
            ((column + 1) * x->columns + y->columns - 1) / y->columns};
    const int top = row * of->stride_rows - of->pad_rows, left = column * of->stride_columns - of->pad_columns;
    window w = {top < 0 ? 0 : top, top + of->height, left < 0 ? 0 : left, left + of->width};
    if (w.r1 > x->rows) w.r1 = x->rows;
    if (w.c1 > x->columns) w.c1 = x->columns;
    if (w.r1 < w.r0) w.r1 = w.r0;
    if (w.c1 < w.c0) w.c1 = w.c0;
    return w;
}

#endif
