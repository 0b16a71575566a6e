/* Generated numbers, in integer steps and single IEEE 754 operations. Compile without fused multiply-add. */
#include "numbers.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0
#error "floats must be computed in their own precision"
#endif

const char *const TABLES[TABLE_IDS] = {"normal16", "normal8", "normal4", "normal2", "uniform16", "sign1", "hadamard"};
static const int BITS[TABLE_IDS] = {16, 8, 4, 2, 16, 1, 1};
static const char *const DIGESTS[TABLE_IDS] = {
    "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8", "be953b3647e269042190432180d99ecfa8d9ec44e4f22e03192b94749da14672",
    "2c49ee770ad750d273e91561d7cacdda903055011dfc23e80d6ec6973717c211", "f5877bced148f7ee666da8f8e6ac746b3e935b10443951b0e5406571e58b0e54",
    "e5391733f9c5678058cffe956c9532c8be9b15b06f5dd65136e417815336f836", "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1",
    "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1"};

/* ---- dtypes ---- */

int dtype_size(dtype type) {
    static const uint8_t sizes[DTYPES] = {8, 8, 4, 4, 2, 2, 2, 1, 1, 1};
    return sizes[type];
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

float widen_brain(uint16_t bits) { return float_of((uint32_t)bits << 16); }

float widen_half(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float value = (float)fraction * 0x1p-24f;
    return sign ? -value : value;
}

uint16_t round_brain(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t round_half(float value) {
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* from 65520 on */
    if (magnitude < 0x38800000) { /* below the least normal number: units of 2**-24; the sum rounds to even */
        float units = float_of(magnitude) * 0x1p24f + 0x1p23f;
        return (uint16_t)(sign | (bits_of(units) & 0x7fffff));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

/* ---- tables ---- */

/* e**-x for x from 0 to 40. */
static double exp_of_minus(double x) {
    const double high = 6.93147180369123816490e-1, low = 1.90821492927058770002e-10;
    int halvings = (int)(x / high + 0.5);
    double rest = halvings * high - x + halvings * low, sum = 1;
    for (int n = 18; n > 0; n--) sum = 1 + sum * rest / n;
    return ldexp(sum, -halvings);
}

/* The normal quantile of 1 - above, by Halley's method from `x`: good to 1e-15, and rounded to binary32 then. */
static double upper_quantile(double above, double x) {
    for (int step = 0; step < 40; step++) {
        double density = exp_of_minus(x * x / 2) / 2.5066282746310002, excess;
        if (x < 2.5) {
            double term = x, sum = x;
            for (int n = 3; term > sum * 1e-18; n += 2) {
                term *= x * x / n;
                sum += term;
            }
            excess = (0.5 - above) / density - sum;
        } else {
            double fraction = 0;
            for (int n = 200; n > 0; n--) fraction = n / (x + fraction);
            excess = 1 / (x + fraction) - above / density;
        }
        double move = excess / (1 - x * excess / 2);
        double next = x + (move < -1 ? -1 : move > 1 ? 1 : move);
        if (next < 0) next = 0;
        if (fabs(next - x) <= 1e-15 * next) return next;
        x = next;
    }
    return x;
}

const float *builtin_table(const char *id, int *bits) {
    static float *made[TABLE_IDS]; /* for the life of the process */
    int which = 0;
    while (which < TABLE_IDS && strcmp(TABLES[which], id)) which++;
    if (which == TABLE_IDS) return NULL;
    *bits = BITS[which];
    if (made[which]) return made[which];
    size_t half = (size_t)1 << (*bits - 1);
    float *table = malloc(2 * half * sizeof *table);
    double entry = 0;
    for (size_t n = 0; table && n < half; n++) {
        double count = 2 * (double)half;
        entry = *bits == 1 ? 1 : id[0] == 'u' ? (double)(2 * n + 1) / count : upper_quantile(((double)(half - n) - 0.5) / count, entry);
        table[half + n] = (float)entry;
        table[half - 1 - n] = -(float)entry;
    }
    char found[65] = "";
    sha256 hash;
    if (table) {
        sha256_start(&hash);
        sha256_add(&hash, table, 2 * half * sizeof *table);
        sha256_hex(&hash, found);
    }
    if (!strcmp(found, DIGESTS[which])) return made[which] = table;
    free(table);
    return NULL;
}

int table_is_right(const float *table, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bits_of(table[i]) && !isnormal(table[i])) return -1; /* negative zero too */
    return 0;
}

int look_up(const float *table, size_t count, float scale, dtype type, uint32_t *bits) {
    if (!(scale > 0) || isinf(scale)) return -1;
    for (size_t i = 0; i < count; i++) {
        float product = table[i] * scale;
        if (table[i] != 0 && !isnormal(product)) return -1;
        bits[i] = type == F32 ? bits_of(product) : type == F16 ? round_half(product) : round_brain(product);
        if ((type == F16 && (bits[i] & 0x7fff) == 0x7c00) || (type == BF16 && (bits[i] & 0x7fff) == 0x7f80)) return -1;
    }
    return 0;
}

/* ---- the stream ---- */

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint64_t stream_of(const char *name, size_t length) {
    uint8_t digest[32];
    uint64_t stream = 0;
    sha256_of(name, length, digest);
    for (int i = 7; i >= 0; i--) stream = stream << 8 | digest[i];
    return stream;
}

static void counter_words(const generator *g, uint64_t counter, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)g->stream, (uint32_t)(g->stream >> 32)};
    uint32_t key[2] = {(uint32_t)g->seed, (uint32_t)(g->seed >> 32)};
    philox(c, key, out);
}

static uint32_t index_of(generator *g, uint64_t i) {
    uint64_t fields = 32u / (unsigned)g->bits, q = i >> 10, block = q / fields;
    if (!g->made || block != g->block) {
        for (uint64_t j = 0; j < 256; j++) {
            uint32_t lanes[4];
            counter_words(g, 256 * block + j, lanes);
            for (int lane = 0; lane < 4; lane++) g->words[256 * lane + (int)j] = lanes[lane];
        }
        g->block = block;
        g->made = 1;
    }
    return g->words[i & 1023] >> (unsigned)g->bits * (q % fields) & ((1u << g->bits) - 1);
}

/* One element's bit of the stream, without the block around it. */
static uint32_t single_bit(const generator *g, uint64_t i) {
    uint32_t lanes[4];
    uint64_t p = i & 1023, q = i >> 10;
    counter_words(g, 256 * (q / 32) + (p & 255), lanes);
    return lanes[p >> 8] >> (q % 32) & 1;
}

void generator_start(generator *g) {
    g->made = 0;
    if (!g->columns) return;
    int64_t longer = g->columns >= g->rows ? g->columns : g->rows, shorter = longer == g->columns ? g->rows : g->columns;
    counter_words(g, (uint64_t)1 << 62, g->lanes);
    g->order = longer & -longer;
    if (g->order < shorter) for (g->order = 1; g->order < longer;) g->order *= 2;
}

uint32_t generator_element(generator *g, uint64_t i) {
    if (!g->columns) return g->values[index_of(g, i)];
    uint64_t row = i / (uint64_t)g->columns, column = i % (uint64_t)g->columns, n = (uint64_t)g->order;
    int wide = g->columns >= g->rows;
    uint64_t l = wide ? column : row, v = wide ? row : column;
    uint64_t longer = (uint64_t)(wide ? g->columns : g->rows), shorter = (uint64_t)(wide ? g->rows : g->columns);
    uint64_t x = ((g->lanes[0] | 1) * (l % n) + g->lanes[1]) % n, y = ((g->lanes[2] | 1) * v + g->lanes[3]) % n;
    uint32_t index = single_bit(g, l) ^ single_bit(g, longer + l / n * shorter + v);
    for (uint64_t both = x & y; both; both &= both - 1) index ^= 1;
    return g->values[index];
}

uint64_t fingerprint_term(uint32_t bits, uint64_t i) {
    uint64_t z = bits ^ i * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
