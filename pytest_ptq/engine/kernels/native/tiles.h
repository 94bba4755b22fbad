/* How products of one kind are shared out: STRUCT is what they are given, TILE_FILE makes their tiles, RUN is their name. */

#include "places.h"

enum {
    PANEL = 128 * 1024, /* bytes of input that are gone through for each block of weights */
    TOGETHER = 168,     /* pixels: whole tiles of every size */
    FEWEST = 24,        /* pixels a thread, below which threads share the channels out instead */
    MOST_ALONE = 1      /* pixels that are left over and cost less one by one than in another tile */
};

#define VECTORS 1
#define ROWS 1
#include TILE_FILE
#undef ROWS
#define ROWS 14
#include TILE_FILE
#undef ROWS
#undef VECTORS
#define VECTORS 2
#define ROWS 1
#include TILE_FILE
#undef ROWS
#define ROWS 12
#include TILE_FILE
#undef ROWS
#undef VECTORS
#define VECTORS 3
#define ROWS 1
#include TILE_FILE
#undef ROWS
#define ROWS 8
#include TILE_FILE
#undef ROWS
#undef VECTORS
#define VECTORS 4
#define ROWS 1
#include TILE_FILE
#undef ROWS
#define ROWS 6
#include TILE_FILE
#undef ROWS
#undef VECTORS

typedef struct {
    int rows;
    void (*many)(const STRUCT *, int64_t, int, int);
    void (*one)(const STRUCT *, int64_t, int, int);
} tiles;

static const tiles TILES[] = {
    {14, tile_14x1, tile_1x1}, {12, tile_12x2, tile_1x2}, {8, tile_8x3, tile_1x3}, {6, tile_6x4, tile_1x4}};

static void run_block(const STRUCT *p, share pixels, int group, int block) {
    const tiles *of = &TILES[p->vectors - 1];
    int64_t i = pixels.begin;
    for (; i + of->rows <= pixels.end; i += of->rows) of->many(p, i, group, block);
    const int enough = pixels.end - pixels.begin >= of->rows;
    if (enough && pixels.end - i > MOST_ALONE) of->many(p, pixels.end - of->rows, group, block);
    else
        for (; i < pixels.end; i++) of->one(p, i, group, block);
}

void RUN(const STRUCT *p, int thread, int threads) {
    const int64_t all = (int64_t)p->y.images * p->y.rows * p->y.columns, blocks = (int64_t)p->groups * p->blocks;
    const int by_pixels = all >= FEWEST * threads;
    const share pixels = by_pixels ? share_of(all, thread, threads) : (share){0, all};
    const share channels = by_pixels ? (share){0, blocks} : share_of(blocks, thread, threads);
    int64_t chunk = PANEL / (4 * p->steps) / TOGETHER * TOGETHER;
    if (chunk < TOGETHER) chunk = TOGETHER;
    for (int64_t from = pixels.begin; from < pixels.end;) {
        const int64_t to = pixels.end - from < chunk + FEWEST ? pixels.end : from + chunk;
        for (int64_t b = channels.begin; b < channels.end; b++)
            run_block(p, (share){from, to}, (int)(b / p->blocks), (int)(b % p->blocks));
        from = to;
    }
}
