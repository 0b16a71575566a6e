/**
 * Strict zlib streams (RFC 1950 and 1951) of a known length.
 *
 * The engines' own decompressors are asynchronous and accept different faults, such as bytes after the end. The format
 * accepts no fault, and refuses what the library zlib refuses.
 */

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const DISTANCES = 30;
const END = 256;
const ADLER = 65521;

/** A stream breaks the rules; the message says which. */
export class StreamFault extends Error {}

function refuse(message) {
  throw new StreamFault(message);
}

/** Return the `size` bytes of a zlib stream. Any other size, or bytes after its end, throws StreamFault. */
export function inflate(bytes, size) {
  const out = new Uint8Array(size);
  const input = new Bits(bytes);
  const [method, flags] = [input.take(8), input.take(8)];
  if ((method * 256 + flags) % 31 || (method & 15) !== 8 || method >> 4 > 7) refuse("is not a zlib stream: its header is wrong");
  if (flags & 32) refuse("is not a complete zlib stream: it needs a dictionary");
  let done = 0;
  for (let last = 0; !last; ) {
    last = input.take(1);
    const kind = input.take(2);
    if (kind === 0) done = stored(input, out, done);
    else if (kind === 3) refuse("is not a zlib stream: a block of an unknown kind");
    else done = compressed(input, out, done, kind === 1 ? FIXED : dynamic(input));
  }
  if (done !== size) refuse(`decompresses to ${done} bytes, not ${size}`);
  input.align();
  const recorded = input.take(8) * 2 ** 24 + (input.take(8) << 16) + (input.take(8) << 8) + input.take(8);
  if (recorded !== adler(out)) refuse("is not a zlib stream: its checksum is wrong");
  if (input.at < bytes.length) refuse("has bytes after the end of its zlib stream");
  return out;
}

/** Bits of a byte array, lowest first. */
class Bits {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.held = 0;
    this.count = 0;
  }

  /** Return the next bits as a number without consuming them; zeros beyond the end. */
  peek(count) {
    while (this.count < count) {
      this.held |= (this.bytes[this.at] ?? 0) << this.count;
      this.at += 1;
      this.count += 8;
    }
    return this.held & ((1 << count) - 1);
  }

  drop(count) {
    this.held >>>= count;
    this.count -= count;
    if (this.at - (this.count >> 3) > this.bytes.length) refuse("is cut off");
  }

  take(count) {
    const value = this.peek(count);
    this.drop(count);
    return value;
  }

  /** Move to the next whole byte, and return bytes that were only peeked. */
  align() {
    this.drop(this.count & 7);
    this.at -= this.count >> 3;
    this.held = 0;
    this.count = 0;
  }
}

function stored(input, out, done) {
  input.align();
  const length = input.take(16);
  if ((length ^ input.take(16)) !== 0xffff) refuse("is not a zlib stream: the lengths of a stored block differ");
  input.align();
  const piece = input.bytes.subarray(input.at, input.at + length);
  if (piece.length < length) refuse("is cut off");
  if (done + length > out.length) refuse(`decompresses to more than ${out.length} bytes`);
  out.set(piece, done);
  input.at += length;
  return done + length;
}

function compressed(input, out, done, [literals, distances]) {
  for (;;) {
    const symbol = decode(input, literals);
    if (symbol === END) return done;
    if (symbol < END) {
      if (done === out.length) refuse(`decompresses to more than ${out.length} bytes`);
      out[done] = symbol;
      done += 1;
      continue;
    }
    const index = symbol - END - 1;
    if (index >= LENGTH_BASE.length) refuse("is not a zlib stream: an unknown length");
    const length = LENGTH_BASE[index] + input.take(LENGTH_EXTRA[index]);
    const code = decode(input, distances);
    if (code >= DISTANCES) refuse("is not a zlib stream: an unknown distance");
    const extra = code < 4 ? 0 : (code >> 1) - 1;
    const distance = (code < 4 ? code : (2 + (code & 1)) << extra) + 1 + input.take(extra);
    if (distance > done) refuse("is not a zlib stream: a match reaches before the data");
    if (done + length > out.length) refuse(`decompresses to more than ${out.length} bytes`);
    for (const end = done + length; done < end; done += 1) out[done] = out[done - distance];
  }
}

function decode(input, { table, bits }) {
  const entry = table[input.peek(bits)];
  if (!entry) refuse("is not a zlib stream: an unknown code");
  input.drop(entry & 15);
  return entry >> 4;
}

/** The two codes of a dynamic block. */
function dynamic(input) {
  const [literals, distances, count] = [input.take(5) + 257, input.take(5) + 1, input.take(4) + 4];
  if (literals > 286 || distances > DISTANCES) refuse("is not a zlib stream: too many symbols");
  const order = new Uint8Array(19);
  for (let i = 0; i < count; i += 1) order[LENGTH_ORDER[i]] = input.take(3);
  const code = codeOf(order, false);
  const lengths = new Uint8Array(literals + distances);
  for (let i = 0; i < lengths.length; ) {
    const symbol = decode(input, code);
    if (symbol < 16) {
      lengths[i] = symbol;
      i += 1;
      continue;
    }
    if (symbol === 16 && i === 0) refuse("is not a zlib stream: a length to repeat is missing");
    const value = symbol === 16 ? lengths[i - 1] : 0;
    const repeat = symbol === 16 ? 3 + input.take(2) : symbol === 17 ? 3 + input.take(3) : 11 + input.take(7);
    if (i + repeat > lengths.length) refuse("is not a zlib stream: too many lengths");
    lengths.fill(value, i, i + repeat);
    i += repeat;
  }
  if (!lengths[END]) refuse("is not a zlib stream: a block has no end");
  return [codeOf(lengths.subarray(0, literals), true), codeOf(lengths.subarray(literals), true)];
}

/**
 * The table of a prefix code: for the next `bits` bits, symbol times 16 plus its length, or 0.
 *
 * `single`: whether a code of at most one symbol of one bit may be incomplete.
 */
function codeOf(lengths, single) {
  const counts = new Uint16Array(16);
  for (const length of lengths) counts[length] += 1;
  counts[0] = 0;
  const bits = counts.findLastIndex(Boolean);
  const next = new Uint16Array(17);
  let left = 1;
  for (let length = 1; length < 16; length += 1) {
    left = 2 * left - counts[length];
    if (left < 0) refuse("is not a zlib stream: a code has too many symbols");
    next[length + 1] = (next[length] + counts[length]) << 1;
  }
  if (left && !(single && bits <= 1)) refuse("is not a zlib stream: a code is incomplete");
  const table = new Uint16Array(1 << Math.max(1, bits));
  lengths.forEach((length, symbol) => {
    if (!length) return;
    let reversed = 0;
    for (let code = next[length], i = 0; i < length; i += 1) reversed |= ((code >> i) & 1) << (length - 1 - i);
    next[length] += 1;
    for (let at = reversed; at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
  });
  return { table, bits: Math.max(1, bits) };
}

const FIXED = [
  codeOf(
    Uint8Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
    true,
  ),
  codeOf(new Uint8Array(32).fill(5), true),
];

function adler(bytes) {
  let [a, b] = [1, 0];
  for (let at = 0; at < bytes.length; ) {
    for (const end = Math.min(bytes.length, at + 3800); at < end; at += 1) {
      a += bytes[at];
      b += a;
    }
    a %= ADLER;
    b %= ADLER;
  }
  return b * 65536 + a;
}
