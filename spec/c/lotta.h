/* A minimal reader of lottapack packs: level "load" of spec/v1/README.md. See README.md beside this file. */
#ifndef LOTTA_H
#define LOTTA_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- faults: the first one ends the reading; section and kind are those of spec/v1/refusals.md ---- */

typedef struct {
    const char *section, *kind;
    char where[256];
    char what[256];
} lotta_fault;

/* ---- JSON: a tree in one allocation, whose strings are decoded in place ---- */

typedef enum { J_NULL, J_BOOL, J_INT, J_FLOAT, J_STRING, J_ARRAY, J_OBJECT } json_type;

typedef struct json {
    json_type type;
    int64_t integer;       /* J_INT, J_BOOL */
    double number;         /* J_FLOAT */
    const char *text;      /* J_STRING: UTF-8, may contain NUL */
    size_t length;         /* J_STRING: bytes; J_ARRAY, J_OBJECT: children */
    const char *key;       /* as a member of an object */
    size_t key_length;
    struct json *child;    /* the first child */
    struct json *next;     /* the next child of the same parent */
} json;

typedef struct json_block {
    struct json_block *next;
    size_t used;
    json nodes[256];
} json_block;

/* Read one JSON value from `size` bytes, which are changed. 0, or -1: not JSON within the format's limits; 1: JSON, but
   a key is not greater than the one before it, or there is white space. */
int json_parse(char *text, size_t size, json_block **blocks, json **root);
void json_free(json_block *blocks);
const json *json_get(const json *object, const char *key);
int json_is(const json *value, const char *text);

/* ---- hashes and streams ---- */

typedef struct {
    uint32_t state[8];
    uint64_t length;
    uint8_t block[64];
} sha256;

void sha256_start(sha256 *hash);
void sha256_add(sha256 *hash, const void *data, size_t size);
void sha256_hex(sha256 *hash, char out[65]);
void sha256_of(const void *data, size_t size, uint8_t digest[32]);

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Decompress a zlib stream of exactly `size` bytes. NULL, or what is wrong. */
const char *zlib_inflate(const uint8_t *in, size_t length, uint8_t *out, size_t size);

/* Decode trellis8 to binary32 values in row-major order. NULL, or what is wrong. */
const char *trellis_decode(const uint8_t *in, size_t length, const int64_t *shape, int dimensions, float *out, size_t count);

/* ---- dtypes ---- */

typedef enum { F64, I64, F32, I32, F16, BF16, I16, I8, U8, BOOL, DTYPES } dtype;

int dtype_size(dtype type);
float widen_half(uint16_t bits);
float widen_brain(uint16_t bits);
uint16_t round_half(float value);
uint16_t round_brain(float value);

/* ---- packs ---- */

typedef struct {
    const char *name;
    size_t name_length;
    dtype type;
    int dimensions;
    int64_t shape[8];
    uint64_t begin, end;
} lotta_tensor;

typedef struct {
    FILE *file;
    uint64_t data_start, size;
    char *header, *descriptor;
    json_block *header_json, *descriptor_json;
    const json *root;          /* the descriptor */
    const json **parameters;   /* their entries by name */
    size_t *owners;            /* for each the one whose weight it is: itself, or where its ties end */
    size_t parameter_count;
    lotta_tensor *tensors;     /* by name */
    size_t tensor_count;
    uint64_t seed;
    lotta_fault fault;
} lotta_pack;

/* Open a pack and check what loading needs. 0, or -1 with `pack->fault`; close it in either case.
   `allowed`: the bytes that the model may declare, with the factors that the seed gives one of its weights. */
int lotta_open(lotta_pack *pack, const char *path, uint64_t allowed);
void lotta_close(lotta_pack *pack);

/* Check every SHA-256, every coding, and every fingerprint on every scaffold. 0, or -1 with `pack->fault`. */
int lotta_check(lotta_pack *pack);

/* The seed of a scaffold; NULL and "default" are that of the pack. 0, or -1 with `pack->fault`. */
int lotta_seed(lotta_pack *pack, const char *scaffold, uint64_t *seed);

/* The plain, merged weight of a parameter in its recorded dtype. malloc'ed bytes, or NULL with `pack->fault`. */
uint8_t *lotta_weight(lotta_pack *pack, size_t parameter, uint64_t seed, size_t *size);

/* The fingerprint of a parameter: 0, 1 if it is not generated, or -1 with `pack->fault`. */
int lotta_fingerprint(lotta_pack *pack, size_t parameter, uint64_t seed, uint64_t *fingerprint);

/* A file beside the model (a member of the descriptor's `files`), checked: as lotta_weight(). */
uint8_t *lotta_file(lotta_pack *pack, const json *file, size_t *size);

/* Decode a coded tensor of `count` elements; `scales` only with the block codings. NULL, or what is wrong. */
const char *lotta_decode(const char *id, dtype type, const int64_t *shape, int dimensions, size_t count, const uint8_t *codes,
                         size_t length, const uint8_t *scales, uint8_t *out);

/* The merged weight of `batch` matrices, in place: spec/v1/merge.md. `parts` that an adapter lacks are NULL. */
enum { LORA_A, LORA_B, BETA, MAGNITUDE, LAMBDA_B, LAMBDA_D, SCALE_IN, SCALE_OUT, ADAPTER_PARTS };

typedef struct {
    size_t batch, d_out, d_in, rank;
    int fan_in_fan_out;
    float scaling;
    int shared[2];             /* whether lora_A, or lora_B, is one for all matrices */
    const float *parts[ADAPTER_PARTS];
} lotta_adapter;

/* The factor of B A. The rank is not 0. */
float lotta_scaling(double alpha, size_t rank, int root);
void lotta_merge(float *weight, const lotta_adapter *adapter);

/* Numbers of a floating dtype as binary32 and back; `out` and `in` may not overlap. */
void lotta_widen(const uint8_t *in, dtype type, size_t count, float *out);
void lotta_round(const float *in, dtype type, size_t count, uint8_t *out);

#endif
