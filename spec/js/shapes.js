/** Element types, shapes and sizes without overflow (spec/v1/container.md, sections 2 and 3). */

const ROWS = [
  ["float64", "F64", 8],
  ["int64", "I64", 8],
  ["float32", "F32", 4],
  ["int32", "I32", 4],
  ["float16", "F16", 2],
  ["bfloat16", "BF16", 2],
  ["int16", "I16", 2],
  ["int8", "I8", 1],
  ["uint8", "U8", 1],
  ["bool", "BOOL", 1],
];

/** Bytes of an element, by dtype. */
export const ITEM_SIZE = new Map(ROWS.map(([name, , size]) => [name, size]));

/** dtype, by the code of safetensors. */
export const FROM_CODE = new Map(ROWS.map(([name, code]) => [code, name]));

/** The dtypes that a backbone or an adapter can have. */
export const GENERATED = ["float32", "bfloat16", "float16"];

/** The floating-point dtypes. */
export const FLOATING = ["float64", ...GENERATED];

const MAX_DIMENSIONS = 8;
const MAX_BYTES = 2n ** 63n - 1n;

/** The number of elements of a shape of bigints; 1 for the empty shape. */
export function numel(shape) {
  return shape.reduce((product, size) => product * size, 1n);
}

/** The fault of a shape of bigints, or null. Zeros are left out of the product. */
export function shapeFault(shape, itemSize) {
  if (shape.length > MAX_DIMENSIONS) return `${shape.length} dimensions; the format allows ${MAX_DIMENSIONS}`;
  if (shape.some((size) => size < 0n)) return "a dimension is below 0";
  if (numel(shape.filter(Boolean)) * BigInt(itemSize) > MAX_BYTES) {
    return "the shape overflows: its size is 2**63 bytes or more";
  }
  return null;
}
