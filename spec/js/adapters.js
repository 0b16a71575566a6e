/** Adapters of parameters: their tensors, ranks and factors (spec/v1/descriptor.md, section 4). */

import { SEEDED, SLICE } from "./codings.js";
import { factorDims } from "./merge.js";
import { GENERATED } from "./shapes.js";
import { HADAMARD } from "./tables.js";
import { quote } from "./text.js";
import { checkCoding, checkDistribution, placeOf } from "./values.js";

/** The tensors of an adapter, in the order in which they are required. */
export const ADAPTER_PARTS = ["lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out"];

const FACTORS = ADAPTER_PARTS.slice(0, 2);
const LAMBDAS = ADAPTER_PARTS.slice(4, 6);
const MOST_RANK = 4096n; // of factors with vectors, if the sides are smaller
const PHILOX = "philox4x32-10";
const SCALINGS = ["lora", "rslora"];

/** What stands before `lora_A` in the names of a parameter's adapter (spec/v1/container.md, section 5). */
export const adapterPrefix = (parameter) => {
  const start = parameter.lastIndexOf(".") + 1;
  return parameter.slice(start) === "weight" ? parameter.slice(0, start) : `${parameter}_`;
};

/** Whether a tensor of an adapter comes from the seed. */
export const isDrawn = (tensor) => tensor.coding?.id === SEEDED;

/** Whether a factor of an adapter is a slice of another adapter's. */
export const isSlice = (tensor) => tensor.coding?.id === SLICE;

/** The adapter of one entry. */
export function checkAdapted(out, entry, rng, place) {
  const { shape, rank, alpha, batch_dims: batchDims, shared_factor: shared } = entry;
  out.known(entry.scaling, SCALINGS, `${place}.scaling`, "scaling");
  if (!(alpha > 0)) out.add("scale", `${place}.alpha`, "alpha must be above 0");
  for (const [part, tensor] of entry.adapter) {
    out.known(tensor.dtype, GENERATED, `${place}.adapter.${part}.dtype`, "dtype");
    out.hexadecimal(tensor.sha256, 64, `${place}.adapter.${part}.sha256`);
    if (tensor.coding) checkPart(out, part, tensor, rng, `${place}.adapter.${part}.coding`);
  }
  if (shared !== undefined) {
    out.known(shared, FACTORS, `${place}.shared_factor`, "shared factor");
    if (batchDims === undefined) out.add("shape", `${place}.shared_factor`, "is only valid with batch_dims");
  }
  if (shape.length < 2 || shape.includes(0n)) {
    out.add("shape", `${place}.shape`, "an adapter needs a weight of two or more dimensions, all above 0");
  } else if (batchDims !== undefined && (batchDims < 1n || batchDims > BigInt(shape.length - 2))) {
    const most = shape.length - 2;
    out.add("shape", `${place}.batch_dims`, `${batchDims} must be from 1 to ${most}, so that a matrix remains`);
  } else {
    checkRank(out, entry, place);
  }
}

/** The rank, and the tensors that belong together. */
function checkRank(out, entry, place) {
  const { rank, adapter } = entry;
  const where = `${place}.adapter`;
  const held = (parts) => parts.filter((part) => adapter.has(part)).length;
  if (!held(FACTORS)) {
    if (rank !== 0n) out.add("field", where, `a rank of ${rank} needs lora_A and lora_B`);
    else if (held(LAMBDAS) || adapter.size === held(["magnitude"])) {
      out.add("field", where, "a rank of 0 needs beta, scale_in or scale_out, and neither lambda_b nor lambda_d");
    }
    return;
  }
  for (const pair of [FACTORS, LAMBDAS]) {
    if (held(pair) === 1) {
      out.add("field", where, `${pair[0]} and ${pair[1]} belong together`);
      return;
    }
  }
  const [, dOut, dIn] = factorDims(entry);
  let most = dOut < dIn ? dOut : dIn;
  if (held(LAMBDAS) && most < MOST_RANK) most = MOST_RANK;
  if (rank < 1n || rank > most) out.add("shape", `${place}.rank`, `the rank ${rank} must be from 1 to ${most}`);
}

/** Each slice must be part of a factor that is not a slice itself. */
export function checkSlices(out, found) {
  for (const [name, entry] of found) {
    for (const [part, tensor] of entry.role === "adapted" ? entry.adapter : []) {
      if (!isSlice(tensor) || typeof tensor.coding.of !== "string") continue;
      const fault = sliceFault(found.get(tensor.coding.of), entry, part);
      const place = `${placeOf(name)}.adapter.${part}.coding.of`;
      if (fault) out.add(fault[0], place, `${quote(tensor.coding.of)} ${fault[1]}`);
    }
  }
}

function sliceFault(owner, entry, part) {
  const whole = owner?.role === "adapted" ? owner.adapter.get(part) : undefined;
  if (!whole) return ["tied", `is not a parameter whose adapter has ${part}`];
  if (isSlice(whole)) return ["tied", `has a ${part} that is itself a slice of another one`];
  if (whole.dtype !== entry.adapter.get(part).dtype) return ["tied", `has ${part} in ${whole.dtype}`];
  if (owner.batch_dims !== undefined || entry.batch_dims !== undefined) {
    return ["shape", "and this parameter must both be one matrix"];
  }
  if (!owner.shape.length || !entry.shape.length) return null; // refused for that already
  const side = part === "lora_A" ? 2 : 1;
  const small = owner.rank < entry.rank || factorDims(owner)[side] < factorDims(entry)[side];
  return small ? ["shape", `has a smaller ${part} than this parameter`] : null;
}

/** The coding of a tensor of an adapter, which may come from the seed. */
function checkPart(out, part, tensor, rng, place) {
  const seeded = FACTORS.includes(part) && (rng === null || rng.id === PHILOX);
  if (!checkCoding(out, tensor, place, seeded)) return;
  const { distribution, scale } = tensor.coding;
  if (distribution === HADAMARD) {
    out.add("id", `${place}.distribution`, `${HADAMARD} is only valid for weights, not for adapters`);
  } else {
    checkDistribution(out, { distribution, scale, dtype: tensor.dtype, shape: [] }, rng, place);
  }
}
