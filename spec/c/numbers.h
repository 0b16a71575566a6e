/* Generated numbers: spec/v1/stream.md, tables.md and fingerprint.md. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include "lotta.h"

enum { TABLE_IDS = 7 };
extern const char *const TABLES[TABLE_IDS]; /* hadamard is the last */

/* A built-in table and its bits; NULL for an unknown id, and if this machine computes other values. */
const float *builtin_table(const char *id, int *bits);

/* 0, or -1 if an entry of a pack's own table is not allowed. */
int table_is_right(const float *table, size_t count);

/* The bits of the value of each index: products with the scale, rounded. 0, or -1 if one is not allowed. */
int look_up(const float *table, size_t count, float scale, dtype type, uint32_t *bits);

uint64_t stream_of(const char *name, size_t length);

typedef struct {
    uint64_t seed, stream;
    const uint32_t *values; /* of look_up() */
    int bits;
    int64_t rows, columns;  /* of a hadamard matrix; otherwise 0 */
    uint32_t words[1024];   /* the block that was made last */
    uint64_t block;
    int made;
    uint32_t lanes[4];      /* of counter 2**62 */
    int64_t order;
} generator;

void generator_start(generator *g);
/* The bits of element `i` in the recorded dtype. */
uint32_t generator_element(generator *g, uint64_t i);

uint64_t fingerprint_term(uint32_t bits, uint64_t i);

#endif
