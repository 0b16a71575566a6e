/* Packs: container, descriptor, agreement, contents, as far as loading needs them (spec/v1/README.md, level "load"). */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

enum { PREFIX = 8, CAP = 100000000, NAME = 1100 };
static const size_t MOST_ELEMENTS = SIZE_MAX / 16; /* whose bytes still have a size; no machine has the memory */

static const char *const CODES[DTYPES] = {"F64", "I64", "F32", "I32", "F16", "BF16", "I16", "I8", "U8", "BOOL"};
static const char *const NAMES[DTYPES] = {"float64", "int64", "float32", "int32", "float16", "bfloat16", "int16", "int8", "uint8", "bool"};
static const char *const PARTS[ADAPTER_PARTS] = {"lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out"};

static int refuse(lotta_pack *p, const char *section, const char *kind, const char *where, size_t length, const char *what) {
    p->fault.section = section;
    p->fault.kind = kind;
    snprintf(p->fault.where, sizeof p->fault.where, "%.*s", length > 200 ? 200 : (int)length, where);
    snprintf(p->fault.what, sizeof p->fault.what, "%s", what);
    return -1;
}

static int fault(lotta_pack *p, const char *section, const char *kind, const json *at) {
    return refuse(p, section, kind, at && at->key ? at->key : "", at && at->key ? at->key_length : 0, "");
}

/* ---- values ---- */

/* Whether a member's key, which may contain NUL, is one of some words with single spaces between them. */
static int is_listed(const json *field, const char *words) {
    for (size_t length; *words; words += length + (words[length] == ' ')) {
        length = strcspn(words, " ");
        if (length == field->key_length && !memcmp(words, field->key, length)) return 1;
    }
    return 0;
}

/* Whether an object has the required fields and no others than those, the optional ones and `x-...`. */
static int has_fields(const json *object, const char *required, const char *optional) {
    size_t found = 0, due = *required != 0;
    if (!object || object->type != J_OBJECT) return 0;
    for (const char *c = required; *c; c++) due += *c == ' ';
    for (const json *field = object->child; field; field = field->next) {
        if (is_listed(field, required)) found++;
        else if (!is_listed(field, optional) && (field->key_length < 2 || memcmp(field->key, "x-", 2))) return 0;
    }
    return found == due;
}

static int is_hex(const json *value, size_t digits) {
    if (!value || value->type != J_STRING || value->length != digits) return 0;
    for (size_t i = 0; i < digits; i++)
        if (!((value->text[i] >= '0' && value->text[i] <= '9') || (value->text[i] >= 'a' && value->text[i] <= 'f'))) return 0;
    return 1;
}

static uint64_t hex_number(const json *value) {
    char text[17] = "";
    memcpy(text, value->text, value->length < 16 ? value->length : 16);
    return strtoull(text, NULL, 16);
}

static int one_of(const json *value, const char *const *words, int count) {
    for (int i = 0; i < count; i++) if (json_is(value, words[i])) return i;
    return -1;
}

typedef struct {
    int dimensions;
    int64_t shape[8];
    size_t count;
    dtype type;
} form;

/* 0, or -1: a shape that no tensor has, or that this machine cannot address. */
static int read_shape(const json *value, form *f) {
    uint64_t all = 1, bytes = (uint64_t)dtype_size(f->type);
    if (!value || value->type != J_ARRAY || value->length > 8) return -1;
    f->dimensions = 0;
    for (const json *size = value->child; size; size = size->next) {
        if (size->type != J_INT || size->integer < 0) return -1;
        f->shape[f->dimensions++] = size->integer;
        all *= (uint64_t)size->integer;
        if (size->integer && bytes > (uint64_t)INT64_MAX / (uint64_t)size->integer) return -1;
        if (size->integer) bytes *= (uint64_t)size->integer;
    }
    if (bytes > SIZE_MAX / 2) return -1;
    f->count = (size_t)all;
    return 0;
}

static int same_form(const lotta_tensor *t, const form *f) {
    return t->type == f->type && t->dimensions == f->dimensions && !memcmp(t->shape, f->shape, sizeof *f->shape * (size_t)f->dimensions);
}

/* ---- the file ---- */

static int read_at(lotta_pack *p, uint64_t begin, void *out, size_t size) {
    return fseeko(p->file, (off_t)begin, SEEK_SET) || fread(out, 1, size, p->file) != size ? -1 : 0;
}

static int read_tensor(lotta_pack *p, const json *entry, lotta_tensor *t) {
    const json *offsets = json_get(entry, "data_offsets");
    form f;
    int type = one_of(json_get(entry, "dtype"), CODES, DTYPES);
    if (!has_fields(entry, "dtype shape data_offsets", "") || entry->length != 3 || type < 0) return fault(p, "container", "entry", entry);
    f.type = t->type = (dtype)type;
    if (read_shape(json_get(entry, "shape"), &f)) return fault(p, "container", "shape", entry);
    t->dimensions = f.dimensions;
    memcpy(t->shape, f.shape, sizeof t->shape);
    t->name = entry->key;
    t->name_length = entry->key_length;
    if (offsets->type != J_ARRAY || offsets->length != 2 || offsets->child->type != J_INT || offsets->child->next->type != J_INT)
        return fault(p, "container", "offsets", entry);
    int64_t begin = offsets->child->integer, end = offsets->child->next->integer;
    if (begin < 0 || end < begin || (uint64_t)(end - begin) != f.count * (uint64_t)dtype_size(t->type)) return fault(p, "container", "offsets", entry);
    t->begin = (uint64_t)begin;
    t->end = (uint64_t)end;
    return 0;
}

/* By decreasing element size, then by name: the tensors lie one after another in this order. */
static int in_file_order(const void *a, const void *b) {
    const lotta_tensor *x = *(lotta_tensor *const *)a, *y = *(lotta_tensor *const *)b;
    if (dtype_size(x->type) != dtype_size(y->type)) return dtype_size(y->type) - dtype_size(x->type);
    return x < y ? -1 : x > y;
}

static int check_layout(lotta_pack *p) {
    lotta_tensor **order = calloc(p->tensor_count + 1, sizeof *order);
    uint64_t place = 0;
    int wrong = 0;
    if (!order) return refuse(p, "limit", "limit", "", 0, "memory");
    for (size_t i = 0; i < p->tensor_count; i++) order[i] = &p->tensors[i];
    qsort(order, p->tensor_count, sizeof *order, in_file_order);
    for (size_t i = 0; i < p->tensor_count && !wrong; i++) {
        if (order[i]->begin != place) wrong = refuse(p, "container", "offsets", order[i]->name, order[i]->name_length, "gap, overlap or another order");
        place = order[i]->end;
    }
    free(order);
    if (!wrong && place != p->size - p->data_start) return refuse(p, "container", "offsets", "data", 4, "bytes left over or missing");
    return wrong;
}

static int parse(lotta_pack *p, const char *section, char *text, size_t size, json_block **blocks, json **root) {
    int done = json_parse(text, size, blocks, root);
    return done ? refuse(p, section, done < 0 ? "json" : "canonical", section[0] == 'c' ? "header" : "descriptor", 10, "") : 0;
}

static int read_header(lotta_pack *p, json **descriptor) {
    uint8_t prefix[PREFIX];
    uint64_t length = 0;
    json *root = NULL;
    char found[65];
    if (p->size < PREFIX || read_at(p, 0, prefix, PREFIX)) return refuse(p, "container", "length", "length", 6, "under 8 bytes");
    for (int i = PREFIX - 1; i >= 0; i--) length = length << 8 | prefix[i];
    if (!length || length % 8 || length > CAP || length > p->size - PREFIX) return refuse(p, "container", "length", "length", 6, "a wrong length");
    p->data_start = PREFIX + length;
    p->header = malloc(length + 1);
    if (!p->header || read_at(p, PREFIX, p->header, length)) return refuse(p, "container", "length", "length", 6, "cannot be read");
    p->header[length] = 0;
    size_t end = length;
    while (end && p->header[end - 1] == ' ') end--;
    p->header[end] = 0;
    if (parse(p, "container", p->header, end, &p->header_json, &root)) return -1;
    if (length - end >= 8) return refuse(p, "container", "canonical", "header", 6, "more padding than needed");
    const json *metadata = json_get(root, "__metadata__"), *text = json_get(metadata, "lottapack"), *digest = json_get(metadata, "lottapack.sha256");
    if (!text || !digest || metadata->length != 2 || text->type != J_STRING || digest->type != J_STRING)
        return refuse(p, "container", "metadata", "header.__metadata__", 19, "");
    p->tensors = calloc(root->length, sizeof *p->tensors);
    if (!p->tensors) return refuse(p, "limit", "limit", "", 0, "memory");
    for (const json *entry = root->child; entry; entry = entry->next)
        if (entry != metadata && read_tensor(p, entry, &p->tensors[p->tensor_count++])) return -1;
    if (check_layout(p)) return -1;
    sha256 hash;
    sha256_start(&hash);
    sha256_add(&hash, text->text, text->length);
    sha256_hex(&hash, found);
    if (!json_is(digest, found)) return refuse(p, "container", "digest", "descriptor", 10, "");
    p->descriptor = malloc(text->length + 1);
    if (!p->descriptor) return refuse(p, "limit", "limit", "", 0, "memory");
    memcpy(p->descriptor, text->text, text->length);
    p->descriptor[text->length] = 0;
    return parse(p, "descriptor", p->descriptor, text->length, &p->descriptor_json, descriptor);
}

/* ---- tensors of parameters, adapters, tables and files ---- */

static lotta_tensor *find(const lotta_pack *p, const char *name, size_t length) {
    size_t low = 0, high = p->tensor_count;
    while (low < high) {
        size_t middle = (low + high) / 2, least = p->tensors[middle].name_length < length ? p->tensors[middle].name_length : length;
        int order = memcmp(p->tensors[middle].name, name, least);
        if (!order) order = p->tensors[middle].name_length < length ? -1 : p->tensors[middle].name_length > length;
        if (!order) return &p->tensors[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* A tensor under `name` and `ending`, of the form `f` (NULL: any row of bytes that can hold `bytes`). */
static lotta_tensor *due(lotta_pack *p, const char *name, const char *ending, const form *f, uint64_t bytes) {
    char whole[2 * NAME];
    int length = snprintf(whole, sizeof whole, "%s%s", name, ending);
    lotta_tensor *t = find(p, whole, (size_t)length);
    if (!t) refuse(p, "agreement", "missing", whole, (size_t)length, "");
    else if (f ? !same_form(t, f) : t->type != U8 || t->dimensions != 1 || bytes / 1032 + (bytes % 1032 != 0) > t->end - t->begin) {
        refuse(p, "agreement", "mismatch", whole, (size_t)length, "");
        t = NULL;
    }
    return t;
}

/* Memory, or NULL with a fault. */
static void *room(lotta_pack *p, size_t size) {
    void *out = size < SIZE_MAX ? malloc(size + 1) : NULL;
    if (!out) refuse(p, "limit", "limit", "", 0, "memory");
    return out;
}

/* The bytes of a tensor, checked against its SHA-256. malloc'ed, or NULL. */
static uint8_t *bytes_of(lotta_pack *p, const lotta_tensor *t, const json *recorded) {
    size_t size = (size_t)(t->end - t->begin);
    uint8_t *out = room(p, size);
    char found[65] = "";
    sha256 hash;
    if (!out) return NULL;
    if (!read_at(p, p->data_start + t->begin, out, size)) {
        sha256_start(&hash);
        sha256_add(&hash, out, size);
        sha256_hex(&hash, found);
    }
    if (*found && json_is(recorded, found)) return out;
    free(out);
    refuse(p, "contents", "sha256", t->name, t->name_length, "");
    return NULL;
}

static const char *const IDS[6] = {"float16", "bfloat16", "int8-block64", "normal4-block64", "trellis8", "planes-zlib"};

/* The coded tensors of something of the form `f`: 0, or -1. */
static int coded_tensors(lotta_pack *p, const char *name, const json *coding, const form *f, lotta_tensor *found[2]) {
    int id = one_of(json_get(coding, "id"), IDS, 6), floating = f->type == F32 || f->type == F16 || f->type == BF16;
    int blocks = id == 2 || id == 3;
    form codes = *f, scales = {1, {0}, 0, F16};
    if (id < 0 || (id < 2 && f->type != F32) || (id < 5 && !floating)) return refuse(p, "descriptor", "id", name, strlen(name), "");
    if (!has_fields(coding, blocks ? "id codes scales" : "id codes", "")) return refuse(p, "descriptor", "field", name, strlen(name), "");
    found[1] = NULL;
    if (id < 2) codes.type = id ? BF16 : F16;
    if (blocks) {
        codes.dimensions = 1;
        codes.type = id == 2 ? I8 : U8;
        codes.shape[0] = (int64_t)(id == 2 ? f->count : f->count / 2 + f->count % 2);
        scales.shape[0] = (int64_t)(f->count / 64 + (f->count % 64 != 0));
        found[1] = due(p, name, ".scales", &scales, 0);
        if (!found[1]) return -1;
    }
    found[0] = due(p, name, ".codes", id < 4 ? &codes : NULL, (uint64_t)f->count * (uint64_t)dtype_size(f->type));
    return found[0] ? 0 : -1;
}

static const char *blocks(int eight, const uint8_t *codes, const uint8_t *scales, size_t count, float *out) {
    static const int8_t levels[16] = {-127, -90, -69, -53, -39, -27, -16, -5, 5, 16, 27, 39, 53, 69, 90, 127};
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = (uint16_t)(scales[i / 64 * 2] | scales[i / 64 * 2 + 1] << 8);
        int code = eight ? (int8_t)codes[i] : codes[i / 2] >> (4 * (i % 2)) & 15;
        if (bits >= 0x7c00) return "has a scale that is infinite, NaN or negative";
        if (eight && code == -128) return "has the code -128";
        if (!bits && code != (eight ? 0 : 8)) return "has a code in a block whose scale is 0";
        out[i] = bits ? (float)(eight ? code : levels[code]) * widen_half(bits) : 0.0f;
    }
    return !eight && count % 2 && codes[count / 2] >> 4 ? "has something after the last code" : NULL;
}

const char *lotta_decode(const char *id, dtype type, const int64_t *shape, int dimensions, size_t count, const uint8_t *codes,
                         size_t length, const uint8_t *scales, uint8_t *out) {
    size_t size = (size_t)dtype_size(type);
    const char *wrong = NULL;
    if (!strcmp(id, "planes-zlib")) {
        uint8_t *flat = malloc(count * size + 1);
        wrong = flat ? zlib_inflate(codes, length, flat, count * size) : "needs more memory";
        for (size_t i = 0; !wrong && i < count; i++)
            for (size_t j = 0; j < size; j++) out[i * size + j] = flat[j * count + i];
        free(flat);
        return wrong;
    }
    float *values = malloc((count + 1) * sizeof *values);
    if (!values) return "needs more memory";
    if (!strcmp(id, "trellis8")) wrong = trellis_decode(codes, length, shape, dimensions, values, count);
    else if (id[0] == 'i' || id[0] == 'n') wrong = blocks(id[0] == 'i', codes, scales, count, values);
    else {
        lotta_widen(codes, id[0] == 'b' ? BF16 : F16, count, values);
        for (size_t i = 0; i < count; i++) if (!isfinite(values[i])) wrong = "holds infinity or NaN";
    }
    if (!wrong) lotta_round(values, type, count, out);
    for (size_t i = 0; !wrong && type == F16 && i < count; i++) if ((out[2 * i + 1] & 0x7c) == 0x7c) wrong = "has a value beyond float16";
    free(values);
    return wrong;
}

/* What an entry with `sha256` and perhaps `coding` stands for, checked. malloc'ed, or NULL. */
static uint8_t *stored(lotta_pack *p, const char *name, const json *entry, const form *f) {
    const json *coding = json_get(entry, "coding"), *recorded = json_get(entry, "sha256");
    size_t size = f->count * (size_t)dtype_size(f->type);
    uint8_t *out = NULL;
    char found[65];
    if (!coding) {
        lotta_tensor *t = due(p, name, "", f, 0);
        out = t ? bytes_of(p, t, recorded) : NULL;
    } else {
        lotta_tensor *held[2];
        if (coded_tensors(p, name, coding, f, held)) return NULL;
        uint8_t *codes = bytes_of(p, held[0], json_get(coding, "codes")), *scales = NULL;
        if (codes && held[1]) scales = bytes_of(p, held[1], json_get(coding, "scales"));
        if (codes && (scales || !held[1])) out = room(p, size);
        if (out) {
            char id[20];
            snprintf(id, sizeof id, "%s", IDS[one_of(json_get(coding, "id"), IDS, 6)]);
            const char *wrong = lotta_decode(id, f->type, f->shape, f->dimensions, f->count, codes, (size_t)(held[0]->end - held[0]->begin), scales, out);
            sha256 hash;
            sha256_start(&hash);
            sha256_add(&hash, out, wrong ? 0 : size);
            sha256_hex(&hash, found);
            if (wrong) refuse(p, "contents", "coding", held[0]->name, held[0]->name_length, wrong);
            else if (!json_is(recorded, found)) wrong = "", refuse(p, "contents", "sha256", name, strlen(name), "");
            if (wrong) {
                free(out);
                out = NULL;
            }
        }
        free(codes);
        free(scales);
    }
    for (size_t i = 0; out && f->type == BOOL && i < size; i++)
        if (out[i] > 1) {
            free(out);
            out = NULL;
            refuse(p, "contents", "bool", name, strlen(name), "");
        }
    return out;
}

/* ---- parameters ---- */

typedef struct {
    const json *json;
    char name[NAME], prefix[NAME]; /* of the parameter, and of the tensors of its adapter */
    enum { SEEDED, ADAPTED, STORED, CONSTANT, TIED } role;
    form form;
    lotta_adapter adapter;
} entry;

static const char *const ROLES[5] = {"seeded", "adapted", "stored", "constant", "tied"};
static const char *const REQUIRED[5] = {
    "role shape dtype distribution scale fingerprint", "role shape dtype distribution scale fingerprint fan_in_fan_out rank alpha scaling adapter",
    "role shape dtype group trained sha256", "role shape dtype value", "role to"};

static int wrong(lotta_pack *p, const entry *e, const char *kind) { return refuse(p, "descriptor", kind, e->name, strlen(e->name), ""); }

static int read_adapter(lotta_pack *p, entry *e) {
    const json *rank = json_get(e->json, "rank"), *alpha = json_get(e->json, "alpha"), *scaling = json_get(e->json, "scaling");
    const json *shared = json_get(e->json, "shared_factor"), *batch = json_get(e->json, "batch_dims"), *turned = json_get(e->json, "fan_in_fan_out");
    lotta_adapter *a = &e->adapter;
    int leading = batch ? (int)batch->integer : 0;
    size_t rest = 1;
    if (rank->type != J_INT || alpha->type != J_FLOAT || turned->type != J_BOOL || (batch && batch->type != J_INT)) return wrong(p, e, "field");
    if (batch && (batch->integer < 1 || batch->integer > e->form.dimensions - 2)) return wrong(p, e, "shape");
    if (e->form.dimensions < 2 || !e->form.count) return wrong(p, e, "shape");
    for (int part = 0; part < 2; part++) a->shared[part] = json_is(shared, PARTS[part]);
    if (shared && !a->shared[0] && !a->shared[1]) return wrong(p, e, "id");
    if (shared && !batch) return wrong(p, e, "shape");
    a->batch = 1;
    for (int i = 0; i < leading; i++) a->batch *= (size_t)e->form.shape[i];
    for (int i = leading + 1; i < e->form.dimensions; i++) rest *= (size_t)e->form.shape[i];
    a->fan_in_fan_out = (int)turned->integer;
    a->d_out = a->fan_in_fan_out ? rest : (size_t)e->form.shape[leading];
    a->d_in = a->fan_in_fan_out ? (size_t)e->form.shape[leading] : rest;
    const json *tensors = json_get(e->json, "adapter");
    int vectors = json_get(tensors, "lambda_d") != NULL;
    size_t most = a->d_out < a->d_in ? a->d_out : a->d_in;
    if (vectors && most < 4096) most = 4096;
    if (rank->integer < 0 || (uint64_t)rank->integer > most) return wrong(p, e, "shape");
    a->rank = (size_t)rank->integer;
    if (!has_fields(tensors, !a->rank ? "" : vectors ? "lora_A lora_B lambda_b lambda_d" : "lora_A lora_B", "beta magnitude scale_in scale_out"))
        return wrong(p, e, "field");
    if (!a->rank && !json_get(tensors, "beta") && !json_get(tensors, "scale_in") && !json_get(tensors, "scale_out")) return wrong(p, e, "field");
    if (!(alpha->number > 0)) return wrong(p, e, "scale");
    if (!json_is(scaling, "lora") && !json_is(scaling, "rslora")) return wrong(p, e, "id");
    a->scaling = a->rank ? lotta_scaling(alpha->number, a->rank, json_is(scaling, "rslora")) : 1;
    return 0;
}

/* An entry and its form: 0, or -1. */
static int read_entry(lotta_pack *p, const json *value, entry *e) {
    memset(e, 0, sizeof *e);
    e->json = value;
    if (!value->key_length || value->key_length > 1024 || memchr(value->key, 0, value->key_length)) return fault(p, "descriptor", "name", value);
    memcpy(e->name, value->key, value->key_length);
    const char *last = strrchr(e->name, '.');
    last = last ? last + 1 : e->name;
    if (strcmp(last, "weight")) snprintf(e->prefix, sizeof e->prefix, "%.1024s_", e->name);
    else memcpy(e->prefix, e->name, (size_t)(last - e->name));
    int role = one_of(json_get(value, "role"), ROLES, 5);
    if (role < 0) return wrong(p, e, json_get(value, "role") ? "id" : "field");
    e->role = role;
    if (!has_fields(value, REQUIRED[role], role == STORED ? "coding" : role == ADAPTED ? "batch_dims shared_factor" : "")) return wrong(p, e, "field");
    if (role == TIED) return json_get(value, "to")->type == J_STRING ? 0 : wrong(p, e, "field");
    int type = one_of(json_get(value, "dtype"), NAMES, DTYPES);
    if (type < 0 || (role < STORED && type != F32 && type != F16 && type != BF16)) return wrong(p, e, "id");
    e->form.type = (dtype)type;
    if (read_shape(json_get(value, "shape"), &e->form)) return wrong(p, e, "shape");
    if (role == CONSTANT && !is_hex(json_get(value, "value"), 2 * (size_t)dtype_size(e->form.type))) return wrong(p, e, "value");
    if (role == CONSTANT && type == BOOL && hex_number(json_get(value, "value")) > 1) return wrong(p, e, "value");
    if (role < STORED && json_is(json_get(value, "distribution"), "hadamard")) {
        size_t first = e->form.dimensions > 1 ? (size_t)e->form.shape[0] : 1;
        if (first > 1 << 29 || (first && e->form.count / first > 1 << 29)) return wrong(p, e, "shape");
    }
    if (role < STORED && (json_get(value, "scale")->type != J_FLOAT || !is_hex(json_get(value, "fingerprint"), 16))) return wrong(p, e, "field");
    return role == ADAPTED ? read_adapter(p, e) : 0;
}

/* A product, or more elements than there can be. */
static size_t times(size_t a, size_t b) { return b && a > MOST_ELEMENTS / b ? MOST_ELEMENTS : a * b; }

/* Tensor `part` of an adapter: its entry, name and form. 1, 0 if the adapter lacks it, or -1. */
static int adapter_part(lotta_pack *p, const entry *e, int part, const json **found, char name[NAME + 16], form *f) {
    const lotta_adapter *a = &e->adapter;
    *found = json_get(json_get(e->json, "adapter"), PARTS[part]);
    if (!*found) return 0;
    int type = one_of(json_get(*found, "dtype"), NAMES, DTYPES), leading = 0;
    if (!has_fields(*found, "dtype sha256", "coding") || (type != F32 && type != F16 && type != BF16)) return wrong(p, e, type < 0 ? "id" : "field");
    snprintf(name, NAME + 16, "%s%s", e->prefix, PARTS[part]);
    f->type = (dtype)type;
    const json *batch = json_get(e->json, "batch_dims");
    const size_t sides[ADAPTER_PARTS] = {a->rank, a->d_out, 1, a->d_out, a->d_out, a->rank, a->d_in, a->d_out};
    int shared = part == BETA || (part < 2 && a->shared[part]);
    if (!shared && batch) leading = (int)batch->integer;
    memcpy(f->shape, e->form.shape, sizeof f->shape);
    f->dimensions = leading + (part < 2 ? 2 : 1);
    f->shape[leading] = (int64_t)sides[part];
    f->count = times(shared ? 1 : a->batch, sides[part]);
    if (part < 2) {
        f->shape[leading + 1] = (int64_t)(part ? a->rank : a->d_in);
        f->count = times(f->count, part ? a->rank : a->d_in);
    }
    return 1;
}

/* A generator of something's elements, with its bits for each index (malloc'ed). NULL with a fault. */
static uint32_t *generator_of(lotta_pack *p, const json *drawn, const char *name, const form *f, uint64_t seed, generator *g) {
    const json *id = json_get(drawn, "distribution"), *scale = json_get(drawn, "scale");
    char which[70] = "", place[100];
    float *held = NULL, factor;
    const float *table;
    if (id && id->type == J_STRING && id->length < sizeof which && !memchr(id->text, 0, id->length)) memcpy(which, id->text, id->length);
    const json *own = json_get(json_get(json_get(p->root, "rng"), "tables"), which);
    if (own) {
        snprintf(place, sizeof place, "lottapack.tables.%s", which);
        lotta_tensor *t = find(p, place, strlen(place));
        g->bits = (int)json_get(own, "bits")->integer;
        table = held = t ? (float *)(void *)bytes_of(p, t, json_get(own, "sha256")) : NULL;
        if (!table) return NULL;
    } else if (!(table = builtin_table(which, &g->bits))) {
        refuse(p, "descriptor", "id", name, strlen(name), "an unknown distribution");
        return NULL;
    }
    uint32_t *values = malloc(((size_t)1 << g->bits) * sizeof *values);
    factor = scale && scale->type == J_FLOAT ? (float)scale->number : 0;
    if (!values || factor <= 0 || (double)factor != scale->number || look_up(table, (size_t)1 << g->bits, factor, f->type, values)) {
        refuse(p, "descriptor", "scale", name, strlen(name), "");
        free(values);
        values = NULL;
    }
    free(held);
    g->seed = seed;
    g->stream = stream_of(name, strlen(name));
    g->values = values;
    g->rows = g->columns = 0;
    if (!strcmp(which, "hadamard")) {
        g->rows = f->dimensions > 1 ? f->shape[0] : 1;
        g->columns = 1;
        for (int i = f->dimensions > 1; i < f->dimensions; i++) g->columns *= f->shape[i];
    }
    if (values && f->count) generator_start(g);
    return values;
}

static int generate(lotta_pack *p, const json *drawn, const char *name, const form *f, uint64_t seed, uint8_t *out, uint64_t *sum) {
    generator g;
    uint32_t *values = generator_of(p, drawn, name, f, seed, &g);
    size_t size = (size_t)dtype_size(f->type);
    if (!values) return -1;
    for (size_t i = 0; i < f->count; i++) {
        uint32_t bits = generator_element(&g, i);
        if (sum) *sum += fingerprint_term(bits, i);
        for (size_t j = 0; out && j < size; j++) out[i * size + j] = (uint8_t)(bits >> (8 * j));
    }
    free(values);
    return 0;
}

static uint8_t *adapter_bytes(lotta_pack *p, int part, const json *tensor, const char *name, const form *f);
static size_t index_of(const lotta_pack *p, const json *name);

/* The first rows and columns of another parameter's factor: out of its bytes. 0, or -1. */
static int slice_of(lotta_pack *p, int part, const json *coding, const char *name, const form *f, uint8_t *out) {
    const json *of = json_get(coding, "of"), *tensor;
    size_t size = (size_t)dtype_size(f->type), owner = of && of->type == J_STRING ? index_of(p, of) : p->parameter_count;
    char whole[NAME + 16];
    form g;
    entry *e = malloc(sizeof *e);
    int status = e && owner < p->parameter_count ? read_entry(p, p->parameters[owner], e) : refuse(p, "descriptor", "tied", name, strlen(name), "");
    if (!status && (e->role != ADAPTED || adapter_part(p, e, part, &tensor, whole, &g) < 1 || g.type != f->type ||
                    json_is(json_get(json_get(tensor, "coding"), "id"), "slice")))
        status = refuse(p, "descriptor", "tied", name, strlen(name), "");
    if (!status && (g.dimensions != 2 || f->dimensions != 2 || g.shape[0] < f->shape[0] || g.shape[1] < f->shape[1]))
        status = refuse(p, "descriptor", "shape", name, strlen(name), "");
    free(e);
    uint8_t *from = status ? NULL : adapter_bytes(p, part, tensor, whole, &g);
    for (int64_t row = 0; from && row < f->shape[0]; row++)
        memcpy(out + (size_t)(row * f->shape[1]) * size, from + (size_t)(row * g.shape[1]) * size, (size_t)f->shape[1] * size);
    free(from);
    return from ? 0 : -1;
}

/* The bytes of a tensor of an adapter: in the file, from the seed of the pack, or of another's. malloc'ed, or NULL. */
static uint8_t *adapter_bytes(lotta_pack *p, int part, const json *tensor, const char *name, const form *f) {
    const json *coding = json_get(tensor, "coding");
    int slice = part < 2 && json_is(json_get(coding, "id"), "slice");
    if (!coding || (!slice && (part > 1 || !json_is(json_get(coding, "id"), "seeded")))) return stored(p, name, tensor, f);
    size_t size = f->count * (size_t)dtype_size(f->type);
    uint8_t *out = room(p, size);
    char found[65];
    sha256 hash;
    if (out && !(slice ? slice_of(p, part, coding, name, f, out) : generate(p, coding, name, f, p->seed, out, NULL))) {
        sha256_start(&hash);
        sha256_add(&hash, out, size);
        sha256_hex(&hash, found);
        if (json_is(json_get(tensor, "sha256"), found)) return out;
        refuse(p, "contents", "sha256", name, strlen(name), "");
    }
    free(out);
    return NULL;
}

void lotta_widen(const uint8_t *in, dtype type, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) {
        if (type == F32) memcpy(&out[i], in + 4 * i, 4);
        else {
            uint16_t bits = (uint16_t)(in[2 * i] | in[2 * i + 1] << 8);
            out[i] = type == F16 ? widen_half(bits) : widen_brain(bits);
        }
    }
}

void lotta_round(const float *in, dtype type, size_t count, uint8_t *out) {
    for (size_t i = 0; i < count; i++) {
        if (type == F32) memcpy(out + 4 * i, &in[i], 4);
        else {
            uint16_t bits = type == F16 ? round_half(in[i]) : round_brain(in[i]);
            out[2 * i] = (uint8_t)bits;
            out[2 * i + 1] = (uint8_t)(bits >> 8);
        }
    }
}

float lotta_scaling(double alpha, size_t rank, int root) {
    return (float)(alpha / (root ? sqrt((double)rank) : (double)rank));
}

void lotta_merge(float *weight, const lotta_adapter *a) {
    const float *const *parts = a->parts;
    for (size_t row = 0; row < a->batch * a->d_out; row++) {
        size_t matrix = row / a->d_out, o = row % a->d_out, step = a->fan_in_fan_out ? a->d_out : 1;
        float *w = weight + matrix * a->d_out * a->d_in + o * (a->fan_in_fan_out ? 1 : a->d_in);
        const float *A = a->rank ? parts[LORA_A] + (a->shared[0] ? 0 : matrix * a->rank * a->d_in) : NULL;
        const float *B = a->rank ? parts[LORA_B] + (a->shared[1] ? o : row) * a->rank : NULL;
        const float *inner = parts[LAMBDA_D] ? parts[LAMBDA_D] + matrix * a->rank : NULL;
        double squares = 0;
        for (size_t n = 0; n < a->d_in; n++) {
            float sum = 0, kept = w[n * step];
            for (size_t r = 0; r < a->rank; r++) {
                float x = A[r * a->d_in + n], y = B[r];
                if (inner) x = inner[r] * x;
                if (parts[LAMBDA_B]) y = parts[LAMBDA_B][row] * y;
                float product = y * x;
                sum = r ? sum + product : product;
            }
            if (parts[SCALE_IN]) kept = kept * parts[SCALE_IN][matrix * a->d_in + n];
            if (parts[SCALE_OUT]) kept = parts[SCALE_OUT][row] * kept;
            if (parts[BETA]) kept = *parts[BETA] * kept;
            float scaled = a->scaling * sum;
            w[n * step] = a->rank ? kept + scaled : kept;
            squares = squares + (double)w[n * step] * (double)w[n * step];
        }
        if (!parts[MAGNITUDE]) continue;
        float factor = squares != 0 ? (float)((double)parts[MAGNITUDE][row] / sqrt(squares)) : 0;
        for (size_t n = 0; n < a->d_in; n++) w[n * step] = factor * w[n * step];
    }
}

static int merge(lotta_pack *p, entry *e, uint8_t *bytes) {
    float *parts[ADAPTER_PARTS] = {NULL}, *weight = room(p, e->form.count * sizeof *weight);
    int status = weight ? 0 : -1;
    for (int part = 0; part < ADAPTER_PARTS && !status; part++) {
        const json *tensor;
        char name[NAME + 16];
        form f;
        int has = adapter_part(p, e, part, &tensor, name, &f);
        if (has < 1) {
            status = has;
            continue;
        }
        uint8_t *read = adapter_bytes(p, part, tensor, name, &f);
        parts[part] = read ? room(p, f.count * sizeof **parts) : NULL;
        if (parts[part]) lotta_widen(read, f.type, f.count, parts[part]);
        else status = -1;
        free(read);
    }
    if (!status) {
        for (int part = 0; part < ADAPTER_PARTS; part++) e->adapter.parts[part] = parts[part];
        lotta_widen(bytes, e->form.type, e->form.count, weight);
        lotta_merge(weight, &e->adapter);
        lotta_round(weight, e->form.type, e->form.count, bytes);
    }
    for (int part = 0; part < ADAPTER_PARTS; part++) free(parts[part]);
    free(weight);
    return status;
}

uint8_t *lotta_weight(lotta_pack *p, size_t parameter, uint64_t seed, size_t *size) {
    entry e;
    if (read_entry(p, p->parameters[p->owners[parameter]], &e)) return NULL;
    *size = e.form.count * (size_t)dtype_size(e.form.type);
    if (e.role == STORED) return stored(p, e.name, e.json, &e.form);
    uint8_t *out = room(p, *size);
    size_t step = (size_t)dtype_size(e.form.type);
    int status = out ? 0 : -1;
    if (!status && e.role == CONSTANT) {
        uint64_t bits = hex_number(json_get(e.json, "value"));
        for (size_t i = 0; i < *size; i++) out[i] = (uint8_t)(bits >> (8 * (i % step)));
    } else if (!status) {
        status = generate(p, e.json, e.name, &e.form, seed, out, NULL);
        if (!status && e.role == ADAPTED) status = merge(p, &e, out);
    }
    if (!status) return out;
    free(out);
    return NULL;
}

int lotta_fingerprint(lotta_pack *p, size_t parameter, uint64_t seed, uint64_t *sum) {
    entry e;
    *sum = 0;
    if (read_entry(p, p->parameters[parameter], &e)) return -1;
    return e.role > ADAPTED ? 1 : generate(p, e.json, e.name, &e.form, seed, NULL, sum);
}

static int file_form(lotta_pack *p, const json *file, form *f, char name[NAME]) {
    const json *size = json_get(file, "size");
    if (!has_fields(file, "size sha256", "coding") || size->type != J_INT || size->integer < 0 || size->integer > 1 << 27)
        return fault(p, "descriptor", "field", file);
    if (file->key_length > 200 || memchr(file->key, 0, file->key_length)) return fault(p, "descriptor", "name", file);
    *f = (form){1, {size->integer}, (size_t)size->integer, U8};
    snprintf(name, NAME, "lottapack.files.%.*s", (int)file->key_length, file->key);
    return 0;
}

uint8_t *lotta_file(lotta_pack *p, const json *file, size_t *size) {
    char name[NAME];
    form f;
    if (file_form(p, file, &f, name)) return NULL;
    *size = f.count;
    return stored(p, name, file, &f);
}

/* ---- opening ---- */

/* Find the tensors that an entry needs, and count them. `drawn`: whether it may come from the seed instead. */
static int claim(lotta_pack *p, const char *name, const json *entry, const form *f, int drawn, size_t *used) {
    const json *coding = json_get(entry, "coding");
    lotta_tensor *held[2];
    if (!is_hex(json_get(entry, "sha256"), 64)) return refuse(p, "descriptor", "field", name, strlen(name), "");
    if (drawn && (json_is(json_get(coding, "id"), "seeded") || json_is(json_get(coding, "id"), "slice"))) return 0;
    if (!coding) {
        *used += 1;
        return due(p, name, "", f, 0) ? 0 : -1;
    }
    if (coded_tensors(p, name, coding, f, held)) return -1;
    *used += held[1] ? 2 : 1;
    return 0;
}

/* The tensors of a parameter. `declared`: bytes of all; `drawn`: of the factors that the seed gives one of them, the most. */
static int claim_entry(lotta_pack *p, const json *value, uint64_t *declared, uint64_t *drawn, size_t *used) {
    entry e;
    form f;
    uint64_t own = 0;
    if (read_entry(p, value, &e)) return -1;
    if (e.role == TIED) return 0;
    *declared += (uint64_t)e.form.count * (uint64_t)dtype_size(e.form.type);
    if (*declared > (uint64_t)INT64_MAX) *declared = (uint64_t)INT64_MAX;
    if (e.role == STORED) return claim(p, e.name, value, &e.form, 0, used);
    for (int part = 0; part < ADAPTER_PARTS && e.role == ADAPTED; part++) {
        const json *tensor;
        char name[NAME + 16];
        int has = adapter_part(p, &e, part, &tensor, name, &f);
        if (has < 0 || (has && claim(p, name, tensor, &f, part < 2, used))) return -1;
        if (has && json_is(json_get(json_get(tensor, "coding"), "id"), "seeded")) own += (uint64_t)f.count * (uint64_t)dtype_size(f.type);
    }
    if (own > *drawn) *drawn = own;
    return 0;
}

static int own_tables(lotta_pack *p, size_t *used) {
    const json *tables = json_get(json_get(p->root, "rng"), "tables");
    for (const json *table = tables->child; table; table = table->next) {
        const json *bits = json_get(table, "bits");
        char name[NAME];
        if (!has_fields(table, "bits sha256", "") || bits->type != J_INT) return fault(p, "descriptor", "field", table);
        if (bits->integer < 1 || bits->integer > 16 || bits->integer & (bits->integer - 1)) return fault(p, "descriptor", "field", table);
        if (table->key_length > 64) return fault(p, "descriptor", "id", table);
        form f = {1, {(int64_t)1 << bits->integer}, (size_t)1 << bits->integer, F32};
        snprintf(name, sizeof name, "lottapack.tables.%.*s", (int)table->key_length, table->key);
        lotta_tensor *t = due(p, name, "", &f, 0);
        uint8_t *bytes = t ? bytes_of(p, t, json_get(table, "sha256")) : NULL;
        if (!bytes) return -1;
        int right = table_is_right((float *)(void *)bytes, f.count);
        free(bytes);
        if (right) return refuse(p, "agreement", "table", name, strlen(name), "");
        *used += 1;
    }
    return 0;
}

static size_t index_of(const lotta_pack *p, const json *name) {
    size_t low = 0, high = p->parameter_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const json *one = p->parameters[middle];
        int order = memcmp(one->key, name->text, one->key_length < name->length ? one->key_length : name->length);
        if (!order) order = one->key_length < name->length ? -1 : one->key_length > name->length;
        if (!order) return middle;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return p->parameter_count;
}

/* Follow each tie once: on its way, a parameter's owner is `unknown`, and one that is met again closes a cycle. */
static int find_owners(lotta_pack *p) {
    const size_t fresh = SIZE_MAX, passed = SIZE_MAX - 1;
    for (size_t i = 0; i < p->parameter_count; i++) p->owners[i] = json_is(json_get(p->parameters[i], "role"), "tied") ? fresh : i;
    for (size_t i = 0; i < p->parameter_count; i++) {
        size_t at = i, end;
        while (p->owners[at] == fresh) {
            p->owners[at] = passed;
            at = index_of(p, json_get(p->parameters[at], "to"));
            if (at == p->parameter_count || p->owners[at] == passed) return fault(p, "descriptor", "tied", p->parameters[i]);
        }
        end = p->owners[at];
        for (at = i; p->owners[at] == passed; at = index_of(p, json_get(p->parameters[at], "to"))) p->owners[at] = end;
    }
    return 0;
}

/* "1." and a number of at most nine digits without leading zeros. */
static int is_version(const json *version) {
    if (!version || version->type != J_STRING || version->length < 3 || version->length > 11 || memcmp(version->text, "1.", 2)) return 0;
    for (size_t i = 2; i < version->length; i++) if (version->text[i] < '0' || version->text[i] > '9') return 0;
    return version->text[2] != '0' || version->length == 3;
}

static int read_descriptor(lotta_pack *p, uint64_t allowed) {
    const json *version = json_get(p->root, "lottapack"), *rng = json_get(p->root, "rng"), *parameters = json_get(p->root, "parameters");
    const json *files = json_get(p->root, "files");
    uint64_t declared = 0, drawn = 0;
    size_t used = 0, count = 0;
    if (!is_version(version))
        return refuse(p, "descriptor", "version", "lottapack", 9, "");
    if (!has_fields(p->root, "lottapack architecture rng parameters provenance", "computed files") || parameters->type != J_OBJECT || (files && files->type != J_OBJECT))
        return refuse(p, "descriptor", "field", "descriptor", 10, "");
    const json *scaffolds = json_get(rng, "scaffolds");
    if (!has_fields(rng, "id seed tables", "scaffolds torch capability") || !is_hex(json_get(rng, "seed"), 16) ||
        json_get(rng, "tables")->type != J_OBJECT || (scaffolds && scaffolds->type != J_OBJECT))
        return refuse(p, "descriptor", "field", "rng", 3, "");
    if (!json_is(json_get(rng, "id"), "philox4x32-10") && !json_is(json_get(rng, "id"), "torch-cpu")) return refuse(p, "descriptor", "id", "rng.id", 6, "");
    p->seed = hex_number(json_get(rng, "seed"));
    p->parameters = calloc(parameters->length + 1, sizeof *p->parameters);
    p->owners = calloc(parameters->length + 1, sizeof *p->owners);
    if (!p->parameters || !p->owners) return refuse(p, "limit", "limit", "", 0, "memory");
    for (const json *value = parameters->child; value; value = value->next) {
        if (claim_entry(p, value, &declared, &drawn, &used)) return -1;
        p->parameters[count++] = value;
    }
    p->parameter_count = count;
    for (const json *file = files ? files->child : NULL; file; file = file->next) {
        char name[NAME];
        form f;
        if (file_form(p, file, &f, name) || claim(p, name, file, &f, 0, &used)) return -1;
    }
    if (find_owners(p) || own_tables(p, &used)) return -1;
    if (used != p->tensor_count) return refuse(p, "agreement", "unused", "", 0, "a tensor without a use, or with two");
    return declared > allowed || drawn > allowed - declared ? refuse(p, "limit", "limit", "parameters", 10, "") : 0;
}

int lotta_open(lotta_pack *p, const char *path, uint64_t allowed) {
    json *root = NULL;
    memset(p, 0, sizeof *p);
    p->file = fopen(path, "rb");
    if (!p->file || fseeko(p->file, 0, SEEK_END)) return refuse(p, "container", "length", "file", 4, strerror(errno));
    p->size = (uint64_t)ftello(p->file);
    if (read_header(p, &root)) return -1;
    p->root = root;
    return read_descriptor(p, allowed);
}

void lotta_close(lotta_pack *p) {
    if (p->file) fclose(p->file);
    json_free(p->header_json);
    json_free(p->descriptor_json);
    free(p->header);
    free(p->descriptor);
    free(p->parameters);
    free(p->owners);
    free(p->tensors);
    memset(p, 0, sizeof *p);
}

int lotta_seed(lotta_pack *p, const char *scaffold, uint64_t *seed) {
    *seed = p->seed;
    if (!scaffold || !strcmp(scaffold, "default")) return 0;
    const json *found = json_get(json_get(json_get(json_get(p->root, "rng"), "scaffolds"), scaffold), "seed");
    if (!is_hex(found, 16)) return refuse(p, "descriptor", "id", scaffold, strlen(scaffold), "a scaffold that the pack does not have");
    *seed = hex_number(found);
    return 0;
}

/* Compare a fingerprint with the recorded one. */
static int check_fingerprint(lotta_pack *p, size_t parameter, uint64_t seed, const json *recorded) {
    uint64_t sum;
    int status = lotta_fingerprint(p, parameter, seed, &sum);
    if (status) return status < 0 ? -1 : 0;
    return is_hex(recorded, 16) && hex_number(recorded) == sum ? 0 : fault(p, "contents", "fingerprint", p->parameters[parameter]);
}

int lotta_check(lotta_pack *p) {
    const json *files = json_get(p->root, "files"), *rng = json_get(p->root, "rng"), *scaffolds = json_get(rng, "scaffolds");
    size_t size;
    int drawn = json_is(json_get(rng, "id"), "philox4x32-10");
    for (size_t i = 0; i < p->parameter_count; i++) {
        if (p->owners[i] != i) continue;
        const json *generated = json_get(p->parameters[i], "fingerprint");
        if (generated && !drawn) continue; /* only torch can make these weights */
        uint8_t *bytes = lotta_weight(p, i, p->seed, &size);
        free(bytes);
        if (!bytes || (generated && check_fingerprint(p, i, p->seed, generated))) return -1;
        for (const json *one = generated && scaffolds ? scaffolds->child : NULL; one; one = one->next) {
            char name[NAME];
            snprintf(name, sizeof name, "%.*s", (int)p->parameters[i]->key_length, p->parameters[i]->key);
            if (!is_hex(json_get(one, "seed"), 16)) return fault(p, "descriptor", "field", one);
            if (check_fingerprint(p, i, hex_number(json_get(one, "seed")), json_get(json_get(one, "fingerprints"), name))) return -1;
        }
    }
    for (const json *file = files ? files->child : NULL; file; file = file->next) {
        uint8_t *bytes = lotta_file(p, file, &size);
        free(bytes);
        if (!bytes) return -1;
    }
    return 0;
}
