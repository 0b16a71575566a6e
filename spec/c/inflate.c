/* zlib streams of a known length, as strict as spec/v1/codings.md section 5. */
#include "lotta.h"

#include <string.h>

typedef struct {
    const uint8_t *in, *end;
    uint32_t held;
    int bits, ended;
    uint8_t *out;
    size_t done, size;
} stream;

typedef struct {
    uint16_t counts[16], symbols[288];
} code;

static unsigned take(stream *s, int count) {
    while (s->bits < count) {
        if (s->in == s->end) {
            s->ended = 1;
            return 0;
        }
        s->held |= (uint32_t)*s->in++ << s->bits;
        s->bits += 8;
    }
    unsigned value = s->held & ((1u << count) - 1);
    s->held >>= count;
    s->bits -= count;
    return value;
}

/* The code of some lengths. `single`: whether it may be empty, or one symbol of one bit. */
static int make(code *c, const uint8_t *lengths, int count, int single) {
    uint16_t places[16] = {0};
    int left = 1, used = 0;
    memset(c, 0, sizeof *c);
    for (int i = 0; i < count; i++) c->counts[lengths[i]]++;
    used = count - c->counts[0];
    c->counts[0] = 0;
    for (int i = 1; i < 16; i++) {
        left = 2 * left - c->counts[i];
        if (left < 0) return -1;
        if (i < 15) places[i + 1] = (uint16_t)(places[i] + c->counts[i]);
    }
    if (left && !(single && used <= 1 && used == c->counts[1])) return -1;
    for (int i = 0; i < count; i++) if (lengths[i]) c->symbols[places[lengths[i]]++] = (uint16_t)i;
    return 0;
}

static int symbol(stream *s, const code *c) {
    int value = 0, first = 0, index = 0;
    for (int length = 1; length < 16; length++) {
        value |= (int)take(s, 1);
        if (s->ended) return -1;
        if (value - first < c->counts[length]) return c->symbols[index + value - first];
        index += c->counts[length];
        first = (first + c->counts[length]) << 1;
        value <<= 1;
    }
    return -1;
}

static const char *stored(stream *s) {
    s->held = 0;
    s->bits = 0;
    unsigned length = take(s, 16), other = take(s, 16);
    if (s->ended || (length ^ other) != 0xffff) return "the lengths of a stored block differ";
    if ((size_t)(s->end - s->in) < length) return "is cut off";
    if (length > s->size - s->done) return "decompresses to more bytes";
    if (length) memcpy(s->out + s->done, s->in, length);
    s->in += length;
    s->done += length;
    return NULL;
}

static const char *block(stream *s, const code *literals, const code *distances) {
    for (;;) {
        int next = symbol(s, literals);
        if (next < 0) return "an unknown code";
        if (next == 256) return NULL;
        if (next < 256) {
            if (s->done == s->size) return "decompresses to more bytes";
            s->out[s->done++] = (uint8_t)next;
            continue;
        }
        if (next > 285) return "an unknown length";
        int index = next - 257, extra = index < 8 || index == 28 ? 0 : index / 4 - 1;
        size_t length = index < 8 ? (size_t)index + 3 : index == 28 ? 258 : (size_t)(4 + index % 4) * (1u << extra) + 3;
        length += take(s, extra);
        int place = symbol(s, distances);
        if (place < 0 || place > 29) return "an unknown distance";
        int more = place < 4 ? 0 : place / 2 - 1;
        size_t back = (place < 4 ? (size_t)place : (size_t)(2 + place % 2) << more) + 1 + take(s, more);
        if (s->ended || back > s->done) return "a match reaches before the data";
        if (length > s->size - s->done) return "decompresses to more bytes";
        for (; length; length--, s->done++) s->out[s->done] = s->out[s->done - back];
    }
}

static const char *dynamic(stream *s) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[320] = {0}, small[19] = {0};
    code literals, distances;
    int first = (int)take(s, 5) + 257, second = (int)take(s, 5) + 1, count = (int)take(s, 4) + 4, at = 0;
    if (first > 286 || second > 30) return "too many symbols";
    for (int i = 0; i < count; i++) small[order[i]] = (uint8_t)take(s, 3);
    if (make(&literals, small, 19, 0)) return "a code of lengths is wrong";
    while (at < first + second) {
        int next = symbol(s, &literals), repeat = 1;
        uint8_t value = (uint8_t)next;
        if (next < 0) return "an unknown code";
        if (next == 16 && !at) return "a length to repeat is missing";
        if (next > 15) {
            value = next == 16 ? lengths[at - 1] : 0;
            repeat = next == 16 ? 3 + (int)take(s, 2) : next == 17 ? 3 + (int)take(s, 3) : 11 + (int)take(s, 7);
        }
        if (at + repeat > first + second) return "too many lengths";
        while (repeat--) lengths[at++] = value;
    }
    if (!lengths[256]) return "a block has no end";
    if (make(&literals, lengths, first, 1) || make(&distances, lengths + first, second, 1)) return "a code is wrong";
    return block(s, &literals, &distances);
}

const char *zlib_inflate(const uint8_t *in, size_t length, uint8_t *out, size_t size) {
    stream s = {in, in + length, 0, 0, 0, out, 0, size};
    unsigned method = take(&s, 8), flags = take(&s, 8);
    if ((method * 256 + flags) % 31 || (method & 15) != 8 || method >> 4 > 7 || flags & 32) return "is not a zlib stream";
    for (int last = 0; !last;) {
        const char *fault;
        last = (int)take(&s, 1);
        unsigned kind = take(&s, 2);
        if (kind == 1) {
            uint8_t lengths[288], flat[32];
            code literals, distances;
            for (int i = 0; i < 288; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
            memset(flat, 5, sizeof flat);
            if (make(&literals, lengths, 288, 0) || make(&distances, flat, 32, 0)) return "cannot be";
            fault = block(&s, &literals, &distances);
        } else
            fault = kind == 0 ? stored(&s) : kind == 2 ? dynamic(&s) : "a block of an unknown kind";
        if (fault) return fault;
        if (s.ended) return "is cut off";
    }
    if (s.done != size) return "decompresses to fewer bytes";
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < size; i++) {
        a = (a + out[i]) % 65521;
        b = (b + a) % 65521;
    }
    if (s.end - s.in != 4) return "has bytes after its end, or lacks its checksum";
    uint32_t sum = (uint32_t)s.in[0] << 24 | (uint32_t)s.in[1] << 16 | (uint32_t)s.in[2] << 8 | s.in[3];
    return sum == (b << 16 | a) ? NULL : "its checksum is wrong";
}
