/** Tensors of the runtime from plain numbers, and back. */

import { RunError } from "../page/errors.js";
import { roundTo, widen } from "../lottapack.js";

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
};
const MOST = 2 ** 28;
const MOST_DIMS = 64;

/** A tensor. `values`: numbers in row-major order, one number for all of them, or null for zeros. */
export function feedOf(ort, dtype, dims, values) {
  const Kind = ARRAYS[dtype];
  if (!Kind) throw new RunError("input", dtype || "input", "the page cannot make inputs of this type", "Run it with lottapack.onnx.session.");
  const count = dims.reduce((product, size) => product * size, 1);
  if (!(count <= MOST)) throw new RunError("input", `[${dims}]`, `an input has at most ${MOST} values`);
  return new ort.Tensor(dtype, filled(Kind, dtype, count, values ?? 0), dims);
}

function filled(Kind, dtype, count, values) {
  const each = Array.isArray(values) || ArrayBuffer.isView(values) ? values : null;
  if (each && each.length !== count) throw new RunError("input", "data", `has ${each.length} values, and its dims want ${count}`);
  if (each instanceof Kind) return each;
  if (dtype === "float16") return halvesOf(each ?? new Array(count).fill(values));
  const convert = dtype.startsWith("float") ? Number : whole(Kind, dtype);
  return each ? Kind.from(each, convert) : new Kind(count).fill(convert(values));
}

function halvesOf(values) {
  const bits = roundTo(Float32Array.from(values), "float16");
  return typeof Float16Array === "undefined" ? bits : new Float16Array(bits.buffer);
}

/** A function that refuses what an array of whole numbers would change. */
function whole(Kind, dtype) {
  const right = { int64: Number.isSafeInteger, bool: (value) => value === 0 || value === 1 }[dtype] ?? ((value) => Kind.of(value)[0] === value);
  return (value) => {
    if (!right(Number(value))) throw new RunError("input", "data", `${value} is not a whole number that fits in ${dtype}`);
    return dtype === "int64" ? BigInt(value) : Number(value);
  };
}

/** The numbers of a tensor of the runtime: of float16, which not every engine has, as a Float32Array. */
export function numbersOf({ type, data }) {
  return type === "float16" ? widen(new Uint16Array(data.buffer, data.byteOffset, data.length), "float16") : data;
}

/**
 * Feeds from what a person wrote: by the name of each input a nested array, or `{dims, data}` with `data` as in feedOf().
 */
export function feedsFrom(ort, inputs, written) {
  if (written === null || typeof written !== "object" || Array.isArray(written)) {
    throw new RunError("input", "JSON", "should be an object with the inputs' names", 'Such as {"input": [[0, 1]]}.');
  }
  const feeds = {};
  for (const { name, dtype } of inputs) {
    if (!Object.hasOwn(written, name)) throw new RunError("input", name, "the input is missing");
    feeds[name] = feedFrom(ort, name, dtype, written[name]);
  }
  const odd = Object.keys(written).find((name) => !Object.hasOwn(feeds, name));
  if (odd !== undefined) throw new RunError("input", odd, "the graph does not have this input");
  return feeds;
}

function feedFrom(ort, name, dtype, value) {
  const dims = [];
  let data = value;
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    dims.push(...(Array.isArray(value.dims) ? value.dims : []));
    ({ data } = value);
    const whole = dims.every((size) => Number.isSafeInteger(size) && size >= 0);
    if (!whole || data === undefined) throw new RunError("input", name, "should have dims, a list of sizes, and data");
    if (Array.isArray(data)) data = data.flat(MOST_DIMS);
  } else for (let inner = value; Array.isArray(inner); inner = inner[0]) dims.push(inner.length);
  if (dims.length > MOST_DIMS) throw new RunError("input", name, `has ${dims.length} dimensions, and a tensor at most ${MOST_DIMS}`);
  if (data === value && Array.isArray(value)) data = flat(value, dims, name);
  const numbers = Array.isArray(data) ? data : [data];
  if (!numbers.every((one) => typeof one === "number" || typeof one === "boolean")) {
    throw new RunError("input", name, "should contain numbers only");
  }
  return feedOf(ort, dtype, dims, data);
}

function flat(value, [size, ...dims], name) {
  if (!Array.isArray(value) || value.length !== size) throw new RunError("input", name, "has rows of different lengths");
  return dims.length ? value.flatMap((row) => flat(row, dims, name)) : value;
}
