/* The coding trellis8: spec/v1/codings.md section 6. */
#include "lotta.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4096, LOW = 32768, SYMBOLS = 104, CLASSES = 16, LANES = 64 };

typedef struct {
    uint8_t symbol[SLOTS], negative[SLOTS];
    uint16_t frequency[SLOTS], place[SLOTS];
} table;

typedef struct {
    const uint8_t *at, *end;
} input;

static int byte(input *in) { return in->at < in->end ? *in->at++ : -1; }

static const char *read_table(input *in, table *t) {
    int shares[SYMBOLS], count = byte(in), total = 0, slot = 0;
    if (count < 1 || count > SYMBOLS) return "has a table of a wrong size";
    for (int i = 0; i < count; i++) {
        int low = byte(in), high = low < 128 ? 0 : byte(in);
        if (low < 0 || high < 0 || (low >= 128 && (high < 1 || high > 16))) return "has a share in another form";
        shares[i] = (low & 127) | high << 7;
        total += shares[i];
    }
    if (total != SLOTS / 2 || !shares[count - 1]) return "has a table whose shares are wrong";
    for (int symbol = 0; symbol < count; symbol++)
        for (int sign = 0; sign < (symbol ? 2 : 1); sign++) {
            int frequency = symbol ? shares[symbol] : 2 * shares[symbol];
            for (int place = 0; place < frequency; place++, slot++) {
                t->symbol[slot] = (uint8_t)symbol;
                t->negative[slot] = (uint8_t)sign;
                t->frequency[slot] = (uint16_t)frequency;
                t->place[slot] = (uint16_t)place;
            }
        }
    return NULL;
}

static const char *elements(input *in, const table *tables, const uint8_t *classes, size_t rows, size_t columns, int turned,
                            float step, float *out) {
    static const uint8_t next[16] = {0, 1, 2, 3, 5, 4, 7, 6, 1, 0, 3, 2, 4, 5, 6, 7};
    uint32_t states[LANES];
    uint8_t paths[LANES] = {0};
    size_t lanes = 1, count = rows * columns, i = 0;
    while (lanes < LANES && 2 * lanes <= count / 4096) lanes *= 2;
    if ((size_t)(in->end - in->at) < 4 * lanes) return "ends before its states do";
    for (size_t lane = 0; lane < lanes; lane++, in->at += 4) {
        states[lane] = in->at[0] | (uint32_t)in->at[1] << 8 | (uint32_t)in->at[2] << 16 | (uint32_t)in->at[3] << 24;
        if (states[lane] < LOW || states[lane] >> 31) return "has a state beyond its range";
    }
    if ((in->end - in->at) % 2) return "ends within a word";
    for (size_t row = 0; row < rows; row++)
        for (size_t column = 0; column < columns; column++, i++) {
            size_t lane = i % lanes;
            int second = paths[lane] & 1;
            const table *t = &tables[2 * classes[row] + second];
            uint32_t x = states[lane], slot = x % SLOTS, magnitude;
            int symbol = t->symbol[slot], raw = symbol < 16 ? 0 : symbol / 8 - 1;
            x = t->frequency[slot] * (x / SLOTS) + t->place[slot];
            for (int part = 0; part < 2; part++) {
                if (x < LOW) {
                    if (in->at == in->end) return "ends before its last element";
                    x = x << 16 | in->at[0] | (uint32_t)in->at[1] << 8;
                    in->at += 2;
                }
                if (part) break;
                magnitude = symbol < 16 ? (uint32_t)symbol : ((uint32_t)(symbol % 8 + 8) << raw) + x % (1u << raw);
                x >>= raw;
            }
            states[lane] = x;
            paths[lane] = next[2 * paths[lane] + (magnitude & 1)];
            float whole = magnitude ? (float)(2 * magnitude - (uint32_t)second) : 0.0f;
            out[turned ? column * rows + row : i] = (magnitude && t->negative[slot] ? -whole : whole) * step;
        }
    for (size_t lane = 0; lane < lanes; lane++) if (states[lane] != LOW) return "does not end where it began";
    return in->at == in->end ? NULL : "has something after its last element";
}

const char *trellis_decode(const uint8_t *bytes, size_t length, const int64_t *shape, int dimensions, float *out, size_t count) {
    input in = {bytes, bytes + length};
    size_t first = dimensions > 1 ? (size_t)shape[0] : 1;
    if (!count) return "has no elements, and trellis8 is for some";
    int order = byte(&in), kinds = byte(&in), low = byte(&in), high = byte(&in);
    if (order < 0 || order > 1 || kinds < 1 || kinds > CLASSES || high < 0) return "has a wrong beginning";
    size_t rows = order ? count / first : first, columns = count / rows;
    float step = widen_brain((uint16_t)(low | high << 8));
    if (!(step >= 0x1p-100f && step <= 0x1p100f)) return "has a step beyond its range";
    table *tables = calloc(2 * (size_t)kinds, sizeof *tables);
    uint8_t *classes = calloc(rows, 1);
    const char *fault = tables && classes ? NULL : "needs more memory";
    for (int i = 0; !fault && i < 2 * kinds; i++) fault = read_table(&in, &tables[i]);
    if (!fault && kinds > 1) {
        if ((size_t)(in.end - in.at) < (rows + 1) / 2) fault = "ends before its classes do";
        for (size_t row = 0; !fault && row < rows; row++) {
            classes[row] = in.at[row / 2] >> (4 * (row % 2)) & 15;
            if (classes[row] >= kinds) fault = "has a row of an unknown class";
        }
        if (!fault && rows % 2 && in.at[rows / 2] >> 4) fault = "has something after the last class";
        if (!fault) in.at += (rows + 1) / 2;
    }
    if (!fault) fault = elements(&in, tables, classes, rows, columns, order, step, out);
    free(tables);
    free(classes);
    return fault;
}
