/** The merged weight of a layer with an adapter, with fixed bits (spec/v1/merge.md). */

import { numel } from "./shapes.js";

/** The binary32 factor of B A. `alpha`: a number; `rank`: a number; `rule`: lora or rslora. */
export function scalingFactor(alpha, rank, rule) {
  return Math.fround(rule === "lora" ? alpha / rank : alpha / Math.sqrt(rank));
}

/**
 * `[batch, d_out, d_in]` of the matrices that a weight consists of (spec/v1/descriptor.md, section 4); all bigints.
 *
 * `batch`: the sizes that count matrices; empty for a single matrix.
 */
export function factorDims({ shape, fan_in_fan_out: fanInFanOut, batch_dims: batchDims = 0n }) {
  const matrix = shape.slice(Number(batchDims));
  const sides = [matrix[0], numel(matrix.slice(1))];
  return [shape.slice(0, Number(batchDims)), ...(fanInFanOut ? sides.reverse() : sides)];
}

/**
 * Replace a backbone by the merged weight, in binary32 and in the recorded order, matrix by matrix.
 *
 * `weight`: Float32Array, overwritten; `a`, `b`: lora_A (rank, dIn) and lora_B (dOut, rank) of each matrix, or one
 * for all;
 * `beta`: a number; `magnitude`: Float32Array of dOut for each matrix or null; `dims`: [dOut, dIn].
 */
export function mergeInto(weight, { a, b, magnitude, rank, dims, ...rest }) {
  const [dOut, dIn] = dims;
  const part = (array, size, number) =>
    array?.length > size ? array.subarray(number * size, (number + 1) * size) : array;
  for (let number = 0; number * dOut * dIn < weight.length; number += 1) {
    mergeMatrix(part(weight, dOut * dIn, number), {
      a: part(a, rank * dIn, number),
      b: part(b, dOut * rank, number),
      magnitude: part(magnitude, dOut, number),
      rank,
      dims,
      ...rest,
    });
  }
}

function mergeMatrix(weight, { a, b, beta, magnitude, scaling, rank, dims, fanInFanOut }) {
  const { fround } = Math;
  const [dOut, dIn] = dims;
  const [rowStep, columnStep] = fanInFanOut ? [1, dOut] : [dIn, 1];
  const product = new Float32Array(dIn); // storing in it rounds to binary32
  for (let o = 0; o < dOut; o += 1) {
    for (let r = 0; r < rank; r += 1) {
      const factor = b[o * rank + r];
      const from = r * dIn;
      if (r === 0) for (let n = 0; n < dIn; n += 1) product[n] = factor * a[n];
      else for (let n = 0; n < dIn; n += 1) product[n] += fround(factor * a[from + n]);
    }
    for (let n = 0; n < dIn; n += 1) {
      const at = o * rowStep + n * columnStep;
      weight[at] = fround(beta * weight[at]) + fround(scaling * product[n]);
    }
    if (magnitude) scaleRow(weight, magnitude[o], o * rowStep, columnStep, dIn);
  }
}

/** Give one output's weights the length `wanted`; the squares and their sum are binary64. */
function scaleRow(weight, wanted, at, step, count) {
  let sum = 0;
  for (let n = 0; n < count; n += 1) sum += weight[at + n * step] * weight[at + n * step];
  const factor = Math.fround(sum !== 0 ? wanted / Math.sqrt(sum) : 0);
  for (let n = 0; n < count; n += 1) weight[at + n * step] = factor * weight[at + n * step];
}
