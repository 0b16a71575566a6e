/** Elements of a signed Hadamard matrix (spec/v1/stream.md section 6). 32-bit integers only. */

import { fill, halves, philox } from "./stream.js";

const PLACES = 2n ** 62n;

/** The longest side of a matrix. */
export const LONGEST = 2 ** 29;

const BITS = Uint8Array.of(0, 1);
let last = null; // the codes of the last matrix: pieces of one tensor share them

/** Rows and columns of a tensor, as Numbers: its first dimension and all others, or one row for a single dimension. */
export function matrixOf(shape) {
  const sizes = Array.from(shape, Number);
  const rest = sizes.length > 1 ? sizes.slice(1) : sizes;
  return [sizes.length > 1 ? sizes[0] : 1, rest.reduce((product, size) => product * size, 1)];
}

/** The reason why a shape cannot have this distribution, or null. */
export function matrixFault(shape) {
  const longest = Math.max(...matrixOf(shape));
  return longest > LONGEST ? `a side of ${longest} is longer than 2**29` : null;
}

/** The order of the Hadamard matrix: the power of two that divides the longer side, or the next one above it. */
function orderOf(long, short) {
  let dividing = 1;
  while (long % (2 * dividing) === 0) dividing *= 2;
  if (dividing >= short) return dividing;
  let above = 1;
  while (above < long) above *= 2;
  return above;
}

/**
 * Codes along the longer side, and of the shorter side tile after tile, as Uint32Arrays.
 *
 * Two bits of a code carry a random sign, so that one parity of two codes gives an element's index.
 */
function codesOf([rows, columns], stream, key) {
  const long = Math.max(rows, columns);
  const short = Math.min(rows, columns);
  const order = orderOf(long, short);
  const tiles = Math.ceil(long / order);
  const signs = new Uint8Array(long + tiles * short);
  fill(signs, BITS, 1, stream, key);
  const words = new Int32Array(4);
  philox(words, 1, ...halves(PLACES), stream, key);
  const [a, b, c, d] = words;
  const place = (factor, added, index) => (Math.imul(factor | 1, index) + added) & (order - 1);
  const along = Uint32Array.from({ length: long }, (_, l) => (place(a, b, l % order) << 2) | 2 | signs[l]);
  const across = Uint32Array.from(
    { length: tiles * short },
    (_, n) => (place(c, d, n % short) << 2) | 1 | (signs[long + n] << 1),
  );
  return { along, across, order, short };
}

function parity(bits) {
  let x = bits ^ (bits >>> 16);
  x ^= x >>> 8;
  x ^= x >>> 4;
  return (0x6996 >>> (x & 15)) & 1;
}

/**
 * Elements `start` to `start + out.length - 1` of a matrix `[rows, columns]`, each by its entry in `lut`.
 *
 * `lut`, `out`, `stream` and `key` as in fill() of stream.js.
 */
export function fillHadamard(out, lut, matrix, stream, key, start = 0n) {
  if (!out.length) return;
  const name = [...matrix, ...stream, ...key].join();
  if (last?.name !== name) last = { name, ...codesOf(matrix, stream, key) };
  const { along, across, order, short } = last;
  const [rows, columns] = matrix;
  let row = Number(start / BigInt(columns));
  let column = Number(start % BigInt(columns));
  for (let i = 0; i < out.length; i += 1) {
    const [l, v] = columns >= rows ? [column, row] : [row, column];
    out[i] = lut[parity(along[l] & across[Math.floor(l / order) * short + v])];
    column += 1;
    if (column === columns) [row, column] = [row + 1, 0];
  }
}
