/** From seed, name and index to random words and elements (spec/v1/stream.md). 32-bit integers only. */

import { Sha256 } from "./sha256.js";

const M0 = 0xd2511f53 | 0;
const M1 = 0xcd9e8d57 | 0;
const W0 = 0x9e3779b9 | 0;
const W1 = 0xbb67ae85 | 0;
const BLOCK = 1024;
const LANES = BLOCK / 4;

/** The upper 32 bits of the product of two unsigned 32-bit numbers, from products of their halves. */
export function mulhi(m, c) {
  const a = m & 0xffff;
  const b = m >>> 16;
  const x = c & 0xffff;
  const y = c >>> 16;
  const s = Math.imul(b, x) + (Math.imul(a, x) >>> 16); // fits: (2**16 - 1)**2 + 2**16 < 2**32
  const t = Math.imul(a, y) + (s & 0xffff);
  return (Math.imul(b, y) + (s >>> 16) + (t >>> 16)) | 0;
}

/**
 * Words of Philox 4x32-10: counters (low + i, high) of a stream, for i < counters, planar.
 *
 * `words`: an Int32Array; lane l of counter i goes to `counters * l + i`. `low + i` must not pass 2**32.
 * `key` and `stream`: `[low, high]`.
 */
export function philox(words, counters, low, high, stream, key) {
  const [s0, s1] = stream;
  const [key0, key1] = key;
  for (let i = 0; i < counters; i += 1) {
    let c0 = (low + i) | 0;
    let c1 = high | 0;
    let c2 = s0 | 0;
    let c3 = s1 | 0;
    let k0 = key0 | 0;
    let k1 = key1 | 0;
    for (let round = 0; round < 10; round += 1) {
      const h0 = mulhi(M0, c0);
      const l0 = Math.imul(M0, c0);
      const h1 = mulhi(M1, c2);
      const l1 = Math.imul(M1, c2);
      c0 = h1 ^ c1 ^ k0;
      c1 = l1;
      c2 = h0 ^ c3 ^ k1;
      c3 = l0;
      k0 = (k0 + W0) | 0;
      k1 = (k1 + W1) | 0;
    }
    words[i] = c0;
    words[counters + i] = c1;
    words[2 * counters + i] = c2;
    words[3 * counters + i] = c3;
  }
}

/** A 64-bit bigint as `[low, high]`. */
export function halves(value) {
  return [Number(value & 0xffffffffn), Number((value >> 32n) & 0xffffffffn)];
}

/** The stream of a name as `[low, high]`. */
export function streamOf(name) {
  const digest = new Sha256().update(new TextEncoder().encode(name)).digest();
  const view = new DataView(digest.buffer);
  return [view.getUint32(0, true), view.getUint32(4, true)];
}

/**
 * Elements `start` to `start + out.length - 1` of a stream, each by its entry in `lut`.
 *
 * `lut`: 2**bits entries (bitsOf() in tables.js); `out`: an array of lut's kind; `start`: a bigint below 2**63.
 */
export function fill(out, lut, bits, stream, key, start = 0n) {
  const fields = 32 / bits;
  const mask = lut.length - 1;
  const span = BigInt(BLOCK * fields); // elements that one block of words serves
  let block = start / span;
  const words = new Int32Array(BLOCK);
  for (let first = -Number(start % span); first < out.length; first += BLOCK * fields) {
    const [low, high] = halves(block * BigInt(LANES));
    philox(words, LANES, low, high, stream, key);
    for (let field = 0; field < fields; field += 1) {
      place(out, first + field * BLOCK, words, bits * field, mask, lut);
    }
    block += 1n;
  }
}

/** One field of a block of words to out[at] and on, as far as out reaches. */
function place(out, at, words, shift, mask, lut) {
  const begin = Math.max(0, -at);
  const end = Math.min(BLOCK, out.length - at);
  for (let p = begin; p < end; p += 1) out[at + p] = lut[(words[p] >>> shift) & mask];
}
