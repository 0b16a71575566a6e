/** Distributions: from an index to a value's bits (spec/v1/tables.md). */

import { upperQuantile } from "./quantile.js";
import { sha256 } from "./sha256.js";

const BUILTIN_ROWS = [
  // id, bits, SHA-256 as little-endian binary32: tables.md section 1 and vectors/tables.json.
  ["normal16", 16, "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"],
  ["normal8", 8, "be953b3647e269042190432180d99ecfa8d9ec44e4f22e03192b94749da14672"],
  ["normal4", 4, "2c49ee770ad750d273e91561d7cacdda903055011dfc23e80d6ec6973717c211"],
  ["normal2", 2, "f5877bced148f7ee666da8f8e6ac746b3e935b10443951b0e5406571e58b0e54"],
  ["uniform16", 16, "e5391733f9c5678058cffe956c9532c8be9b15b06f5dd65136e417815336f836"],
  ["sign1", 1, "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1"],
  ["hadamard", 1, "c1112024d84bac179cfda8df2d45cdb8cb941ec29f75e8cffa61c3b4c46d44a1"],
];

/** bits and SHA-256 of the built-in tables, by id. */
export const BUILTIN = new Map(BUILTIN_ROWS.map(([id, bits, digest]) => [id, { bits, digest }]));

/** The distribution whose elements depend on the size of their matrix: its indices are those of hadamard.js. */
export const HADAMARD = "hadamard";

const TINY = 2 ** -126;
const INFINITE_FROM = { float32: Infinity, bfloat16: 2 ** 128 - 2 ** 119, float16: 65520 };
const made = new Map();
const ends = new Map();

/** The entry of a built-in table: number `n` of the upper half, counted from the middle outwards. */
function upperEntry(id, n, guess) {
  const { bits } = BUILTIN.get(id);
  const half = 2 ** bits / 2;
  if (bits === 1) return 1;
  if (id === "uniform16") return (2 * n + 1) / (2 * half);
  return upperQuantile((half - n - 0.5) / (2 * half), guess);
}

/** A built-in table as a Float32Array, computed once and compared with its SHA-256. */
export function builtinTable(id) {
  if (!made.has(id)) {
    const { bits, digest } = BUILTIN.get(id);
    const half = 2 ** bits / 2;
    const table = new Float32Array(2 * half);
    let entry = 0;
    for (let n = 0; n < half; n += 1) {
      entry = upperEntry(id, n, entry);
      table[half + n] = entry;
      table[half - 1 - n] = -entry;
    }
    const found = sha256(new Uint8Array(table.buffer));
    if (found !== digest) throw new Error(`this engine computes ${id} with the SHA-256 ${found}, not ${digest}`);
    made.set(id, table);
  }
  return made.get(id);
}

/** The smallest and largest magnitude of a built-in table, without computing all of it. */
export function extremes(id) {
  if (!ends.has(id)) {
    const half = 2 ** BUILTIN.get(id).bits / 2;
    ends.set(id, [Math.fround(upperEntry(id, 0, 0)), Math.fround(upperEntry(id, half - 1, 2))]);
  }
  return ends.get(id);
}

/** The smallest and largest magnitude of a table, zeros left out; null if it only contains zeros. */
export function extremesOf(table) {
  let [least, most] = [Infinity, 0];
  for (const value of table) {
    const magnitude = Math.abs(value);
    if (magnitude && magnitude < least) least = magnitude;
    if (magnitude > most) most = magnitude;
  }
  return most ? [least, most] : null;
}

/** The fault of a table that a pack contains (section 2), or null. */
export function tableFault(table) {
  for (let n = 0; n < table.length; n += 1) {
    const value = table[n];
    if (!Number.isFinite(value)) return `entry ${n} is ${value}`;
    if (value === 0 ? Object.is(value, -0) : Math.abs(value) < TINY) {
      return `entry ${n} is ${value === 0 ? "negative zero" : "subnormal"}`;
    }
  }
  return null;
}

/**
 * The fault of `scale` for magnitudes between two (section 3), or null. `range`: from extremesOf().
 *
 * All other products lie between those of the two; and the product of two binary32 numbers is exact in binary64.
 */
export function scaleFault(range, scale, dtype) {
  if (!(scale > 0 && scale < Infinity) || Math.fround(scale) !== scale) {
    return `scale ${scale} is not a positive binary32 number`;
  }
  for (const magnitude of range ?? []) {
    const product = Math.fround(magnitude * scale);
    if (!(product >= TINY && product < Infinity)) {
      return `scale ${scale} times the entry ${magnitude} is ${product}, not a normal binary32 number`;
    }
    if (product >= INFINITE_FROM[dtype]) return `scale ${scale} times the entry ${magnitude} is infinite in ${dtype}`;
  }
  return null;
}

/** The bits of the value of each index of a table: the products with the scale, rounded to the dtype. */
export function bitsOf(table, scale, dtype) {
  return roundTo(
    table.map((value) => value * scale), // one multiplication, rounded to binary32 by the array
    dtype,
  );
}

/** A Float32Array rounded to a dtype, as its bits: a Uint32Array for float32, else a Uint16Array. */
export function roundTo(values, dtype) {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (dtype === "float32") return bits;
  const out = new Uint16Array(bits.length);
  if (dtype === "bfloat16") for (let i = 0; i < out.length; i += 1) out[i] = toBfloat16(bits[i]);
  else for (let i = 0; i < out.length; i += 1) out[i] = toFloat16(bits[i]);
  return out;
}

function toBfloat16(u) {
  if ((u & 0x7fffffff) > 0x7f800000) return (u >>> 16) | 0x40; // NaN stays NaN
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}

function toFloat16(u) {
  const sign = (u >>> 16) & 0x8000;
  const magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 2**16 and more
  const exponent = magnitude >>> 23;
  // The significand and how many of its bits go; a result that is subnormal loses more.
  const subnormal = exponent < 113;
  const drop = subnormal ? 126 - exponent : 13;
  if (drop > 24) return sign; // at most half of the least subnormal, and a tie goes to 0
  const significand = subnormal ? (magnitude & 0x7fffff) | 0x800000 : magnitude - 0x38000000;
  const kept = significand >>> drop;
  const rest = significand & ((1 << drop) - 1);
  const half = 1 << (drop - 1);
  return sign | (kept + (rest > half || (rest === half && kept & 1) ? 1 : 0)); // a carry runs into the exponent
}

/** The values of bits of a dtype as a Float32Array, which is exact. */
export function widen(bits, dtype) {
  if (dtype === "float32") return new Float32Array(bits.buffer, bits.byteOffset, bits.length);
  const out = new Uint32Array(bits.length);
  if (dtype === "bfloat16") for (let i = 0; i < out.length; i += 1) out[i] = bits[i] << 16;
  else if (out.length < MANY) for (let i = 0; i < out.length; i += 1) out[i] = fromFloat16(bits[i]);
  else {
    wide ??= Uint32Array.from({ length: 2 ** 16 }, (_, n) => fromFloat16(n));
    for (let i = 0; i < out.length; i += 1) out[i] = wide[bits[i]];
  }
  return new Float32Array(out.buffer);
}

const MANY = 2 ** 16; // from here on, a table of all float16 numbers costs less than it saves
let wide;

/** The binary32 bits of a float16's bits. A NaN becomes the quiet one without a payload. */
function fromFloat16(bits) {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? 0x7fc00000 : sign | 0x7f800000;
  if (exponent) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (!fraction) return sign;
  const shift = Math.clz32(fraction) - 21; // a subnormal: its first one moves before the point
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}
