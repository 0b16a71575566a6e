/** Codings of tensors: their tensors in the file, and decoding (spec/v1/codings.md). */

import { CodingFault } from "./faults.js";
import { StreamFault, inflate } from "./inflate.js";
import { GENERATED, ITEM_SIZE, numel } from "./shapes.js";
import { roundTo, widen } from "./tables.js";
import { trellis } from "./trellis.js";

export { CodingFault };

const NARROW = ["float16", "bfloat16"];
const BLOCKS = ["int8-block64", "normal4-block64"];
const PLANES = "planes-zlib";
const TRELLIS = "trellis8";
/** The coding of an adapter's tensor that comes from the seed. */
export const SEEDED = "seeded";
/** The coding of an adapter's factor that is the first rows and columns of another adapter's. */
export const SLICE = "slice";
const BLOCK = 64n;
const LEVELS = [-127, -90, -69, -53, -39, -27, -16, -5, 5, 16, 27, 39, 53, 69, 90, 127];
const INFINITE = { float16: 0x7c00, bfloat16: 0x7f80 };
const MOST_GROWTH = 1032n;

/** The codings that a dtype may have. */
export function codingsOf(dtype) {
  const narrow = dtype === "float32" ? NARROW : [];
  return [...narrow, ...(GENERATED.includes(dtype) ? [...BLOCKS, TRELLIS] : []), ...(ITEM_SIZE.has(dtype) ? [PLANES] : [])];
}

/** The fields of a coding besides its id; null for an unknown one. */
export function fieldsOfCoding(id) {
  if (id === SEEDED) return ["distribution", "scale"];
  if (id === SLICE) return ["of"];
  if (BLOCKS.includes(id)) return ["codes", "scales"];
  return [...NARROW, PLANES, TRELLIS].includes(id) ? ["codes"] : null;
}

/** The tensors in the file for a coded parameter: `{part, dtype, shape, sha256}`; shape is null if it is free. */
export function codedTensors({ shape, coding }) {
  const { id, codes, scales } = coding;
  const count = numel(shape);
  const up = (divisor) => [(count + divisor - 1n) / divisor];
  if (id === SEEDED || id === SLICE) return [];
  if (NARROW.includes(id)) return [{ part: "codes", dtype: id, shape, sha256: codes }];
  if (id === PLANES || id === TRELLIS) return [{ part: "codes", dtype: "uint8", shape: null, sha256: codes }];
  const [dtype, size] = id === "int8-block64" ? ["int8", [count]] : ["uint8", up(2n)];
  return [
    { part: "codes", dtype, shape: size, sha256: codes },
    { part: "scales", dtype: "float16", shape: up(BLOCK), sha256: scales },
  ];
}

/** The fault of a compressed tensor of a parameter, or null. Any size that can contain the parameter is valid. */
export function compressedFault(name, entry, info) {
  if (info.dtype !== "uint8" || info.shape.length !== 1) {
    return `the file holds ${info.dtype} [${info.shape.join(", ")}], and a compressed tensor is a row of uint8`;
  }
  const size = numel(entry.shape) * BigInt(ITEM_SIZE.get(entry.dtype));
  if (size <= MOST_GROWTH * BigInt(info.end - info.begin)) return null;
  return `${info.end - info.begin} bytes cannot decompress to the ${size} of ${name}`;
}

/** The same bytes in a buffer of their own, from which numbers can be read: a Buffer of Node is a view of a larger one. */
export function owned(bytes) {
  return new Uint8Array(bytes.length === bytes.buffer.byteLength ? bytes.buffer : bytes);
}

/** The bytes of a coded parameter. `given`: the bytes of its coded tensors by part. Throws CodingFault. */
export function decodeParameter({ shape, dtype, coding }, given) {
  const parts = Object.fromEntries(Object.entries(given).map(([part, bytes]) => [part, owned(bytes)]));
  const count = Number(numel(shape));
  if (coding.id === PLANES) return planes(parts.codes, count, ITEM_SIZE.get(dtype));
  let values;
  if (NARROW.includes(coding.id)) values = narrow(coding.id, new Uint16Array(parts.codes.buffer));
  else if (coding.id === TRELLIS) values = trellis(parts.codes, shape);
  else values = blocks(coding.id, parts.codes, new Uint16Array(parts.scales.buffer), count);
  const bits = roundTo(values, dtype);
  if (dtype === "float16" && bits.some((value) => (value & 0x7c00) === 0x7c00)) {
    throw new CodingFault("", "has a value beyond float16 once decoded");
  }
  return new Uint8Array(bits.buffer);
}

function narrow(id, codes) {
  const infinite = INFINITE[id];
  for (let i = 0; i < codes.length; i += 1) {
    if ((codes[i] & infinite) === infinite) throw new CodingFault("codes", "holds infinity or NaN");
  }
  return widen(codes, id);
}

function blocks(id, codes, scales, count) {
  if (scales.some((scale) => scale >= INFINITE.float16)) {
    throw new CodingFault("scales", "holds a scale that is infinite, NaN, or has a sign");
  }
  const eight = id === "int8-block64";
  const signed = new Int8Array(codes.buffer);
  if (!eight && count % 2 && codes[codes.length - 1] >> 4) {
    throw new CodingFault("codes", "has something in the half byte after the last code");
  }
  if (eight && signed.includes(-128)) throw new CodingFault("codes", "holds the code -128");
  const codeAt = eight ? (i) => signed[i] : (i) => (codes[i >> 1] >> (4 * (i & 1))) & 15;
  const factors = widen(scales, "float16");
  const zero = eight ? 0 : 8;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 1) {
    const code = codeAt(i);
    const factor = factors[i >>> 6];
    if (factor) values[i] = (eight ? code : LEVELS[code]) * factor;
    else if (code !== zero) throw new CodingFault("codes", `has a code other than ${zero} in a block whose scale is 0`);
  }
  return values;
}

function planes(codes, count, size) {
  let flat;
  try {
    flat = inflate(codes, count * size);
  } catch (fault) {
    if (!(fault instanceof StreamFault)) throw fault;
    throw new CodingFault("codes", fault.message);
  }
  if (size === 1) return flat;
  const bytes = new Uint8Array(flat.length);
  for (let plane = 0; plane < size; plane += 1) {
    const from = plane * count;
    for (let i = 0, at = plane; i < count; i += 1, at += size) bytes[at] = flat[from + i];
  }
  return bytes;
}
