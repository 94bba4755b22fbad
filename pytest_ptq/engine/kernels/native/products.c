/* Convolutions and matrix products: tiles of pixels times vectors of channels, summed by vpdpbusd.

   A pixel's four inputs are broadcast against the weights of sixteen channels. Nothing is copied: a tap is an offset to
   the pixel's address. Tiles are as large as 32 registers hold, and the last one begins earlier instead of being
   smaller, so that its pixels may be computed twice. */

#define STRUCT product
#define TILE_FILE "tile.h"
#define RUN run_product
#include "tiles.h"
