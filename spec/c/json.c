/* JSON as spec/v1/container.md section 4 has it, without the test that numbers and escapes are in their one form. */
#include "lotta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64, LONGEST_KEY = 8192 };
static const int64_t GREATEST = 9007199254740991; /* 2**53 - 1 */

typedef struct {
    char *at, *end;
    json_block **blocks;
    int depth, loose;
} parser;

static json *node(parser *p, json_type type) {
    if (!*p->blocks || (*p->blocks)->used == sizeof (*p->blocks)->nodes / sizeof (json)) {
        json_block *made = calloc(1, sizeof *made);
        if (!made) return NULL;
        made->next = *p->blocks;
        *p->blocks = made;
    }
    json *made = &(*p->blocks)->nodes[(*p->blocks)->used++];
    made->type = type;
    return made;
}

void json_free(json_block *blocks) {
    while (blocks) {
        json_block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

static void space(parser *p) {
    for (; p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'); p->at++) p->loose = 1;
}

static int is_utf8(const unsigned char *s, const unsigned char *end) {
    while (s < end) {
        unsigned c = *s++;
        int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
        if (more < 0 || more > end - s) return 0;
        if ((c == 0xe0 && s[0] < 0xa0) || (c == 0xed && s[0] > 0x9f) || (c == 0xf0 && s[0] < 0x90) || (c == 0xf4 && s[0] > 0x8f))
            return 0;
        for (; more; more--) if ((*s++ & 0xc0) != 0x80) return 0;
    }
    return 1;
}

static int hex4(parser *p, unsigned *out) {
    *out = 0;
    if (p->end - p->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = *p->at++;
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        *out = *out * 16 + (unsigned)digit;
    }
    return 0;
}

static int escape(parser *p, char **out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end) return -1;
    char c = *p->at++;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        *(*out)++ = to[known - from];
        return 0;
    }
    unsigned code, low;
    if (c != 'u' || hex4(p, &code)) return -1;
    if (code >= 0xd800 && code < 0xe000) {
        if (code >= 0xdc00 || p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u') return -1;
        p->at += 2;
        if (hex4(p, &low) || low < 0xdc00 || low >= 0xe000) return -1;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    char *o = *out;
    if (code < 0x80) *o++ = (char)code;
    else if (code < 0x800) { *o++ = (char)(0xc0 | code >> 6); *o++ = (char)(0x80 | (code & 63)); }
    else if (code < 0x10000) { *o++ = (char)(0xe0 | code >> 12); *o++ = (char)(0x80 | (code >> 6 & 63)); *o++ = (char)(0x80 | (code & 63)); }
    else { *o++ = (char)(0xf0 | code >> 18); *o++ = (char)(0x80 | (code >> 12 & 63)); *o++ = (char)(0x80 | (code >> 6 & 63)); *o++ = (char)(0x80 | (code & 63)); }
    *out = o;
    return 0;
}

/* A string, decoded in place: no escape is shorter than what it stands for. `raw`: its bytes as written. */
static int string(parser *p, const char **text, size_t *length, size_t *raw) {
    if (p->at == p->end || *p->at != '"') return -1;
    char *begin = ++p->at, *out = begin;
    for (;;) {
        if (p->at == p->end || (unsigned char)*p->at < 0x20) return -1;
        char c = *p->at++;
        if (c == '"') break;
        if (c != '\\') *out++ = c;
        else if (escape(p, &out)) return -1;
    }
    *raw = (size_t)(p->at - 1 - begin);
    *text = begin;
    *length = (size_t)(out - begin);
    return 0;
}

static int digits(parser *p) {
    char *begin = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') p->at++;
    return p->at > begin ? 0 : -1;
}

static json *number(parser *p) {
    char *begin = p->at;
    int whole = 1;
    if (p->at < p->end && *p->at == '-') p->at++;
    char *first = p->at;
    if (digits(p) || (*first == '0' && p->at - first > 1)) return NULL;
    if (p->at < p->end && *p->at == '.') {
        whole = 0;
        p->at++;
        if (digits(p)) return NULL;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        whole = 0;
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-')) p->at++;
        if (digits(p)) return NULL;
    }
    json *made = node(p, whole ? J_INT : J_FLOAT);
    if (!made) return NULL;
    if (!whole) {
        made->number = strtod(begin, NULL);
        return isfinite(made->number) ? made : NULL;
    }
    if (p->at - first > 16) return NULL;
    made->integer = strtoll(begin, NULL, 10);
    return made->integer <= GREATEST && made->integer >= -GREATEST ? made : NULL;
}

static json *value(parser *p);

static int smaller(const json *a, const json *b) {
    size_t least = a->key_length < b->key_length ? a->key_length : b->key_length;
    int order = memcmp(a->key, b->key, least);
    return order < 0 || (order == 0 && a->key_length < b->key_length);
}

static json *container(parser *p, char closing) {
    json *made = node(p, closing == '}' ? J_OBJECT : J_ARRAY), *last = NULL;
    if (!made || ++p->depth > DEPTH) return NULL;
    p->at++;
    space(p);
    while (made->length || p->at == p->end || *p->at != closing) {
        const char *key = NULL;
        size_t length = 0, raw = 0;
        if (made->type == J_OBJECT) {
            if (string(p, &key, &length, &raw) || raw > LONGEST_KEY) return NULL;
            space(p);
            if (p->at == p->end || *p->at++ != ':') return NULL;
            space(p);
        }
        json *child = value(p);
        if (!child) return NULL;
        child->key = key;
        child->key_length = length;
        if (last && key && !smaller(last, child)) p->loose = 1;
        if (last) last->next = child;
        else made->child = child;
        last = child;
        made->length++;
        space(p);
        if (p->at == p->end) return NULL;
        if (*p->at == closing) break;
        if (*p->at++ != ',') return NULL;
        space(p);
    }
    p->at++;
    p->depth--;
    return made;
}

static json *word(parser *p, const char *text, json_type type, int64_t integer) {
    size_t length = strlen(text);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, text, length)) return NULL;
    p->at += length;
    json *made = node(p, type);
    if (made) made->integer = integer;
    return made;
}

static json *value(parser *p) {
    if (p->at == p->end) return NULL;
    switch (*p->at) {
    case '{': return container(p, '}');
    case '[': return container(p, ']');
    case 't': return word(p, "true", J_BOOL, 1);
    case 'f': return word(p, "false", J_BOOL, 0);
    case 'n': return word(p, "null", J_NULL, 0);
    case '"': {
        json *made = node(p, J_STRING);
        size_t raw;
        return made && !string(p, &made->text, &made->length, &raw) ? made : NULL;
    }
    default: return number(p);
    }
}

int json_parse(char *text, size_t size, json_block **blocks, json **root) {
    parser p = {text, text + size, blocks, 0, 0};
    if (!is_utf8((unsigned char *)text, (unsigned char *)text + size)) return -1;
    space(&p);
    *root = value(&p);
    space(&p);
    return !*root || p.at != p.end ? -1 : p.loose;
}

const json *json_get(const json *object, const char *key) {
    size_t length = strlen(key);
    if (!object || object->type != J_OBJECT) return NULL;
    for (const json *child = object->child; child; child = child->next)
        if (child->key_length == length && !memcmp(child->key, key, length)) return child;
    return NULL;
}

int json_is(const json *value, const char *text) {
    return value && value->type == J_STRING && value->length == strlen(text) && !memcmp(value->text, text, value->length);
}
