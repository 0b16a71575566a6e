/* The command `lotta`: speaks the protocol of spec/v1/conformance.md on standard input and output. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum { FIELDS = 20 };

static void print_text(const char *text, size_t length) { /* as in canonical JSON, without the quotes */
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *found = c ? strchr(plain, c) : NULL;
        if (found) printf("\\%c", letter[found - plain]);
        else if (c < 0x20) printf("\\u%04x", c);
        else putchar(c);
    }
}

static void print_digest(const uint8_t *bytes, size_t size) {
    char hex[65];
    sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, bytes, size);
    sha256_hex(&hash, hex);
    fputs(hex, stdout);
}

static void refused(const lotta_pack *p) {
    printf("refused\t%s\t%s\t", p->fault.section, p->fault.kind);
    print_text(p->fault.where, strlen(p->fault.where));
}

static dtype type_of(const char *name) {
    static const char *const names[DTYPES] = {"float64", "int64", "float32", "int32", "float16", "bfloat16", "int16", "int8", "uint8", "bool"};
    int i = 0;
    while (i < DTYPES - 1 && strcmp(names[i], name)) i++;
    return (dtype)i;
}

/* Bytes in hexadecimal digits: malloc'ed; "-" is none. */
static uint8_t *bytes(const char *hex, size_t *size) {
    *size = strcmp(hex, "-") ? strlen(hex) / 2 : 0;
    uint8_t *out = malloc(*size + 8);
    for (size_t i = 0; out && i < *size; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return out;
}

/* Sizes as in "3,4": their number; "-" is none. */
static int sizes(const char *text, int64_t shape[8], size_t *count) {
    int dimensions = 0;
    *count = 1;
    for (char *end = (char *)text; *text && *text != '-' && dimensions < 8; text = *end ? end + 1 : end) {
        shape[dimensions] = strtoll(text, &end, 10);
        *count *= (size_t)shape[dimensions++];
    }
    return dimensions;
}

static void ask_elements(char **f) { /* name, seed, table's id or bytes, bits, scale, dtype, start, count, shape */
    dtype type = type_of(f[6]);
    size_t size, count, step = (size_t)dtype_size(type), wanted = (size_t)strtoull(f[8], NULL, 10);
    uint64_t start = strtoull(f[7], NULL, 10), sum = 0;
    int64_t shape[8];
    generator g = {0};
    int dimensions = sizes(f[9], shape, &count);
    uint8_t *held = NULL;
    const float *table = builtin_table(f[3], &g.bits);
    if (!table) {
        held = bytes(f[3], &size);
        g.bits = (int)strtol(f[4], NULL, 10);
        size_t due = (size_t)4 << g.bits; /* the entries are repeated */
        uint8_t *whole = malloc(due);
        if (!whole || !held || !size) exit(1);
        for (size_t i = 0; i < due; i++) whole[i] = held[i % size];
        free(held);
        table = (float *)(void *)(held = whole);
    }
    uint32_t *values = malloc(((size_t)1 << g.bits) * sizeof *values);
    uint8_t *out = malloc(wanted * step + 1);
    if (!table || !values || !out) exit(1);
    look_up(table, (size_t)1 << g.bits, strtof(f[5], NULL), type, values);
    g.values = values;
    g.seed = strtoull(f[2], NULL, 16);
    g.stream = stream_of(f[1], strlen(f[1]));
    if (dimensions) {
        g.rows = dimensions > 1 ? shape[0] : 1;
        g.columns = g.rows ? (int64_t)count / g.rows : 0;
    }
    generator_start(&g);
    for (size_t i = 0; i < wanted; i++) {
        uint32_t bits = generator_element(&g, start + i);
        sum += fingerprint_term(bits, start + i);
        for (size_t j = 0; j < step; j++) out[i * step + j] = (uint8_t)(bits >> (8 * j));
    }
    print_digest(out, wanted * step);
    printf("\t%016" PRIx64, sum);
    free(held);
    free(values);
    free(out);
}

static void ask_decode(char **f) { /* id, dtype, shape, codes, scales */
    int64_t shape[8] = {0};
    size_t count, length, more;
    dtype type = type_of(f[2]);
    int dimensions = sizes(f[3], shape, &count);
    uint8_t *codes = bytes(f[4], &length), *scales = bytes(f[5], &more), *out = malloc(count * 8 + 1);
    if (!codes || !scales || !out) exit(1);
    const char *wrong = lotta_decode(f[1], type, shape, dimensions, count, codes, length, scales, out);
    if (wrong) printf("refused\tcontents\tcoding\t%s", wrong);
    else print_digest(out, count * (size_t)dtype_size(type));
    free(codes);
    free(scales);
    free(out);
}

static void ask_merge(char **f) { /* batch, outputs, inputs and rank; fan_in_fan_out, alpha, rule, shared, dtypes, bytes */
    int64_t shape[8];
    size_t size, count;
    dtype type = type_of(f[6]), from = type_of(f[7]);
    lotta_adapter a = {0};
    float *parts[ADAPTER_PARTS] = {NULL};
    if (sizes(f[1], shape, &count) != 4) exit(1);
    a.batch = (size_t)shape[0], a.d_out = (size_t)shape[1], a.d_in = (size_t)shape[2], a.rank = (size_t)shape[3];
    a.fan_in_fan_out = !strcmp(f[2], "true");
    a.scaling = a.rank ? lotta_scaling(strtod(f[3], NULL), a.rank, !strcmp(f[4], "rslora")) : 1;
    a.shared[0] = !strcmp(f[5], "lora_A");
    a.shared[1] = !strcmp(f[5], "lora_B");
    for (int part = 0; part < ADAPTER_PARTS; part++) {
        uint8_t *in = bytes(f[9 + part], &size);
        size_t numbers = size / (size_t)dtype_size(from);
        parts[part] = size ? malloc(numbers * sizeof **parts) : NULL;
        if (parts[part]) lotta_widen(in, from, numbers, parts[part]);
        free(in);
    }
    for (int part = 0; part < ADAPTER_PARTS; part++) a.parts[part] = parts[part];
    count = a.batch * a.d_out * a.d_in;
    uint8_t *weight = bytes(f[8], &size);
    float *values = malloc(count * sizeof *values + 1);
    if (!weight || !values || (a.rank && (!parts[LORA_A] || !parts[LORA_B]))) exit(1);
    lotta_widen(weight, type, count, values);
    lotta_merge(values, &a);
    lotta_round(values, type, count, weight);
    print_digest(weight, size);
    free(weight);
    free(values);
    for (int part = 0; part < ADAPTER_PARTS; part++) free(parts[part]);
}

static void list_weights(lotta_pack *p, uint64_t seed) {
    char (*known)[65] = calloc(p->parameter_count + 1, sizeof *known);
    for (size_t i = 0; known && i < p->parameter_count; i++) {
        size_t size, owner = p->owners[i];
        if (!*known[owner]) {
            sha256 hash;
            uint8_t *weight = lotta_weight(p, owner, seed, &size);
            if (weight) {
                sha256_start(&hash);
                sha256_add(&hash, weight, size);
                sha256_hex(&hash, known[owner]);
            } else
                strcpy(known[owner], "-");
            free(weight);
        }
        putchar('\t');
        print_text(p->parameters[i]->key, p->parameters[i]->key_length);
        printf("\t%s", known[owner]);
    }
    free(known);
}

static void list_fingerprints(lotta_pack *p, uint64_t seed) {
    for (size_t i = 0; i < p->parameter_count; i++) {
        uint64_t sum;
        int status = lotta_fingerprint(p, i, seed, &sum);
        if (status > 0) continue;
        putchar('\t');
        print_text(p->parameters[i]->key, p->parameters[i]->key_length);
        if (status) printf("\t-");
        else printf("\t%016" PRIx64, sum);
    }
}

static void list_files(lotta_pack *p) {
    const json *files = json_get(p->root, "files");
    for (const json *file = files ? files->child : NULL; file; file = file->next) {
        size_t size;
        uint8_t *content = lotta_file(p, file, &size);
        putchar('\t');
        print_text(file->key, file->key_length);
        putchar('\t');
        if (content) print_digest(content, size);
        else putchar('-');
        free(content);
    }
}

static void ask_pack(char **f, int count) {
    lotta_pack p;
    uint64_t seed = 0;
    int status = lotta_open(&p, f[1], !strcmp(f[0], "check") ? strtoull(f[2], NULL, 10) : UINT64_MAX);
    if (!status && !strcmp(f[0], "check")) status = lotta_check(&p);
    if (!status && count > 2 && strcmp(f[0], "check")) status = lotta_seed(&p, f[2], &seed);
    if (status) refused(&p);
    else {
        fputs("ok", stdout);
        if (!strcmp(f[0], "weights")) list_weights(&p, seed);
        if (!strcmp(f[0], "fingerprints")) list_fingerprints(&p, seed);
        if (!strcmp(f[0], "files")) list_files(&p);
    }
    lotta_close(&p);
}

static void answer(char **f, int count) {
    int bits;
    if (!strcmp(f[0], "hello")) fputs("1\tload", stdout);
    else if (!strcmp(f[0], "philox") && count == 3) {
        uint32_t in[6], out[4];
        for (int i = 0, at = 0; i < 6; i++, at += 9) in[i] = (uint32_t)strtoul(i < 4 ? f[1] + at : f[2] + at - 36, NULL, 16);
        philox(in, in + 4, out);
        printf("%08x %08x %08x %08x", out[0], out[1], out[2], out[3]);
    } else if (!strcmp(f[0], "stream") && count == 2) printf("%016" PRIx64, stream_of(f[1], strlen(f[1])));
    else if (!strcmp(f[0], "table") && count == 2) {
        const float *table = builtin_table(f[1], &bits);
        if (table) print_digest((const uint8_t *)table, ((size_t)1 << bits) * sizeof *table);
    } else if (!strcmp(f[0], "elements") && count == 10) ask_elements(f);
    else if (!strcmp(f[0], "decode") && count == 6) ask_decode(f);
    else if (!strcmp(f[0], "merge") && count == 17) ask_merge(f);
    else if ((!strcmp(f[0], "check") || !strcmp(f[0], "weights") || !strcmp(f[0], "fingerprints")) && count == 3) ask_pack(f, count);
    else if (!strcmp(f[0], "files") && count == 2) ask_pack(f, count);
    else fputs("unsupported", stdout);
    putchar('\n');
    fflush(stdout);
}

/* Undo the escapes of a field, in place. */
static void unescape(char *text) {
    json_block *blocks = NULL;
    json *value;
    size_t length = strlen(text);
    char *quoted = malloc(length + 3);
    if (!quoted) exit(1);
    snprintf(quoted, length + 3, "\"%s\"", text);
    if (json_parse(quoted, length + 2, &blocks, &value) >= 0) {
        memcpy(text, value->text, value->length);
        text[value->length] = 0;
    }
    json_free(blocks);
    free(quoted);
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        char *fields[FIELDS] = {""}, *at = line;
        int count = 0;
        if (line[length - 1] == '\n') line[length - 1] = 0;
        while (at && count < FIELDS) {
            fields[count++] = at;
            at = strchr(at, '\t');
            if (at) *at++ = 0;
        }
        for (int i = 0; i < count; i++) if (strchr(fields[i], '\\')) unescape(fields[i]);
        answer(fields, count);
    }
    free(line);
    return 0;
}
