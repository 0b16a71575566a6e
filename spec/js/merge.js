/** The merged weight of a layer with an adapter, with fixed bits (spec/v1/merge.md). */

import { numel } from "./shapes.js";

/** The binary32 factor of B A. `alpha`: a number; `rank`: a number, 0 without factors; `rule`: lora or rslora. */
export function scalingFactor(alpha, rank, rule) {
  if (rank === 0) return 1;
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

const PER_MATRIX = {
  lora_A: ({ rank, dIn }) => rank * dIn,
  lora_B: ({ rank, dOut }) => rank * dOut,
  magnitude: ({ dOut }) => dOut,
  lambda_b: ({ dOut }) => dOut,
  lambda_d: ({ rank }) => rank,
  scale_in: ({ dIn }) => dIn,
  scale_out: ({ dOut }) => dOut,
};

/**
 * Replace a backbone by the merged weight, in binary32 and in the recorded order, matrix by matrix.
 *
 * `weight`: Float32Array, overwritten; `lora_A` (rank, dIn), `lora_B` (dOut, rank) and the vectors of an adapter: of
 * each matrix, or one for all, Float32Array, or absent; `beta`: of one number, or absent; `dims`: [dOut, dIn].
 */
export function mergeInto(weight, { rank, dims, scaling, fanInFanOut, beta, ...adapter }) {
  const [dOut, dIn] = dims;
  const size = dOut * dIn;
  const own = (array, length, number) =>
    array?.length > length ? array.subarray(number * length, (number + 1) * length) : array;
  for (let number = 0; number * size < weight.length; number += 1) {
    const parts = { beta };
    for (const [part, count] of Object.entries(PER_MATRIX)) {
      parts[part] = own(adapter[part], count({ rank, dIn, dOut }), number);
    }
    mergeMatrix(weight.subarray(number * size, (number + 1) * size), parts, { rank, dims, scaling, fanInFanOut });
  }
}

function mergeMatrix(weight, parts, { rank, dims, scaling, fanInFanOut }) {
  const { fround } = Math;
  const [dOut, dIn] = dims;
  const { magnitude, scale_in: scaleIn, scale_out: scaleOut } = parts;
  const a = parts.lora_A && timesRows(parts.lora_A, parts.lambda_d, rank);
  const b = parts.lora_B && timesRows(parts.lora_B, parts.lambda_b, dOut);
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
      let value = weight[at];
      if (scaleIn) value = fround(value * scaleIn[n]);
      if (scaleOut) value = fround(value * scaleOut[o]);
      if (parts.beta) value = fround(parts.beta[0] * value);
      weight[at] = rank ? value + fround(scaling * product[n]) : value;
    }
    if (magnitude) scaleRow(weight, magnitude[o], o * rowStep, columnStep, dIn);
  }
}

/** A matrix, each row times its number of a vector, if there is one. */
function timesRows(matrix, vector, rows) {
  if (!vector) return matrix;
  const columns = matrix.length / rows;
  return matrix.map((value, at) => vector[Math.floor(at / columns)] * value); // storing rounds to binary32
}

/** Give one output's weights the length `wanted`; the squares and their sum are binary64. */
function scaleRow(weight, wanted, at, step, count) {
  let sum = 0;
  for (let n = 0; n < count; n += 1) sum += weight[at + n * step] * weight[at + n * step];
  const factor = Math.fround(sum !== 0 ? wanted / Math.sqrt(sum) : 0);
  for (let n = 0; n < count; n += 1) weight[at + n * step] = factor * weight[at + n * step];
}
