/** Reading and checking the descriptor's `parameters` (spec/v1/descriptor.md, sections 3 and 4). */

import { SEEDED as DRAWN, SHARED, codingsOf, fieldsOfCoding } from "./codings.js";
import { matrixFault } from "./hadamard.js";
import { factorDims } from "./merge.js";
import { BOOLEAN, FLOAT, INTEGER, INTEGERS, TEXT, exactRecord, fieldsOf, optional, record } from "./records.js";
import { GENERATED, ITEM_SIZE, shapeFault } from "./shapes.js";
import { streamOf } from "./stream.js";
import { BUILTIN, HADAMARD, extremes, scaleFault } from "./tables.js";
import { kindOf, quote } from "./text.js";

export const TORCH_CPU = "torch-cpu";
export const CONSTRUCTOR = "constructor";
/** The tensors of an adapter, in the order in which they are required. */
export const ADAPTER_PARTS = ["lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out"];

const FACTORS = ADAPTER_PARTS.slice(0, 2);
const LAMBDAS = ADAPTER_PARTS.slice(4, 6);
const MOST_RANK = 4096n; // of factors with vectors, if the sides are smaller
const PHILOX = "philox4x32-10";
const MAX_PARAMETERS = 100_000;
const MAX_NAME_BYTES = 1024;
const GROUPS = ["embedding", "head", "norm", "bias", "buffer", "other"];
const SCALINGS = ["lora", "rslora"];
const DTYPES = [...ITEM_SIZE.keys()];

const CODING = exactRecord({
  id: TEXT,
  codes: optional(TEXT),
  scales: optional(TEXT),
  distribution: optional(TEXT),
  scale: optional(FLOAT),
  of: optional(TEXT),
});
const TENSOR = record({ dtype: TEXT, sha256: TEXT, coding: optional(CODING) });
const SEEDED = { role: TEXT, shape: INTEGERS, dtype: TEXT, distribution: TEXT, scale: FLOAT, fingerprint: TEXT };
const FIELDS = {
  seeded: SEEDED,
  adapted: {
    ...SEEDED,
    fan_in_fan_out: BOOLEAN,
    batch_dims: optional(INTEGER),
    shared_factor: optional(TEXT),
    rank: INTEGER,
    alpha: FLOAT,
    scaling: TEXT,
    adapter: record(Object.fromEntries(ADAPTER_PARTS.map((part) => [part, optional(TENSOR)]))),
  },
  stored: {
    role: TEXT,
    shape: INTEGERS,
    dtype: TEXT,
    group: TEXT,
    trained: BOOLEAN,
    sha256: TEXT,
    coding: optional(CODING),
  },
  constant: { role: TEXT, shape: INTEGERS, dtype: TEXT, value: TEXT },
  tied: { role: TEXT, to: TEXT },
};

/** Whether an entry's values are generated. */
export const isGenerated = (entry) => entry.role === "seeded" || entry.role === "adapted";

/** The place of an entry in errors. */
export const placeOf = (name) => `parameters[${quote(name)}]`;

/**
 * The entries by name as objects with the fields of their role; shapes are arrays of bigints, `adapter` has its
 * tensors by part. Adds faults to `out`; null if an entry cannot be read. `rng`: null if it is faulty itself.
 */
export function readParameters(out, value, rng) {
  const found = new Map();
  if (!(value instanceof Map)) {
    out.add("field", "parameters", `must be an object, not ${kindOf(value)}`);
    return null;
  }
  if (value.size > MAX_PARAMETERS) {
    out.add("name", "parameters", `${value.size} parameters, but the format allows only ${MAX_PARAMETERS}`);
    return null;
  }
  for (const [name, item] of value) {
    const place = placeOf(name);
    const fault = nameFault(name);
    if (fault) out.add("name", place, fault);
    const entry = readEntry(out, item, place);
    if (entry) {
      found.set(name, entry);
      if (entry.role !== "tied") checkEntry(out, entry, rng, place);
    }
  }
  checkTies(out, found, value);
  checkStreams(out, found);
  checkAllShared(out, found);
  return found.size === value.size ? found : null;
}

/** The fault of a parameter's name, or null. */
export function nameFault(name) {
  if (!name) return "the name is empty";
  if (new TextEncoder().encode(name).length > MAX_NAME_BYTES) return `the name is longer than ${MAX_NAME_BYTES} bytes`;
  if (/[\u0000-\u001f\u007f-\u009f/\\]/.test(name)) return "the name holds a control character, a slash or a backslash";
  return null;
}

function readEntry(out, item, place) {
  if (!(item instanceof Map)) {
    out.add("field", place, `must be an object, not ${kindOf(item)}`);
    return null;
  }
  const role = item.get("role");
  if (typeof role !== "string") {
    out.add("field", `${place}.role`, "the role is missing or not a string");
    return null;
  }
  if (!out.known(role, Object.keys(FIELDS), `${place}.role`, "role")) return null;
  if (!out.record(item, FIELDS[role], place)) return null;
  const entry = fieldsOf(item);
  withCoding(entry);
  if (role === "adapted") {
    const adapter = fieldsOf(entry.adapter);
    const parts = ADAPTER_PARTS.filter((part) => part in adapter);
    entry.adapter = new Map(parts.map((part) => [part, withCoding(fieldsOf(adapter[part]))]));
  }
  return entry;
}

function withCoding(entry) {
  if (entry.coding) entry.coding = Object.fromEntries(entry.coding);
  return entry;
}

function checkEntry(out, entry, rng, place) {
  out.known(entry.dtype, isGenerated(entry) ? GENERATED : DTYPES, `${place}.dtype`, "dtype");
  const fault = shapeFault(entry.shape, ITEM_SIZE.get(entry.dtype) ?? 1);
  if (fault) out.add("shape", `${place}.shape`, fault);
  if (entry.role === "stored") {
    out.known(entry.group, GROUPS, `${place}.group`, "group");
    out.hexadecimal(entry.sha256, 64, `${place}.sha256`);
    if (entry.coding) checkCoding(out, entry, `${place}.coding`);
  } else if (entry.role === "constant") {
    checkConstant(out, entry, place);
  } else {
    out.hexadecimal(entry.fingerprint, 16, `${place}.fingerprint`);
    checkDistribution(out, entry, rng, place);
    if (entry.role === "adapted") checkAdapted(out, entry, rng, place);
  }
}

/** `seeded`: whether it may come from the seed or another adapter. Returns whether it comes from the seed, with its fields. */
function checkCoding(out, { dtype, coding }, place, seeded = false) {
  out.known(coding.id, [...codingsOf(dtype), ...(seeded ? [DRAWN, SHARED] : [])], `${place}.id`, `coding of a ${dtype}`);
  const due = fieldsOfCoding(coding.id);
  const wrong = due && ["codes", "distribution", "of", "scale", "scales"].find((field) => due.includes(field) !== field in coding);
  if (wrong) out.add("field", place, `${coding.id} has ${due.includes(wrong) ? "" : "no "}${wrong}`);
  for (const part of ["codes", "scales"]) {
    if (part in coding) out.hexadecimal(coding[part], 64, `${place}.${part}`);
  }
  return seeded && coding.id === DRAWN && !wrong;
}

function checkConstant(out, { dtype, value }, place) {
  const digits = 2 * (ITEM_SIZE.get(dtype) ?? 0);
  const right = value.length === digits && /^[0-9a-f]*$/.test(value);
  if (digits && (!right || (dtype === "bool" && value !== "00" && value !== "01"))) {
    const form = dtype === "bool" ? '"00" or "01"' : `${digits} lower-case hexadecimal digits`;
    out.add("value", `${place}.value`, `the value of a ${dtype} must be ${form}`);
  }
}

/** Only built-in tables are checked here; a pack's own table is known when its tensor is read. */
function checkDistribution(out, { distribution, scale, dtype, shape }, rng, place) {
  if (rng?.id === TORCH_CPU) {
    out.known(distribution, [CONSTRUCTOR], `${place}.distribution`, "distribution");
    if (scale !== 1) out.add("scale", `${place}.scale`, `with ${TORCH_CPU} the scale must be 1.0`);
  } else if (BUILTIN.has(distribution)) {
    const fault = GENERATED.includes(dtype) ? scaleFault(extremes(distribution), scale, dtype) : null;
    if (fault) out.add("scale", `${place}.scale`, fault);
    const long = distribution === HADAMARD ? matrixFault(shape) : null;
    if (long) out.add("shape", `${place}.shape`, long);
  } else if (rng) {
    out.known(distribution, [...BUILTIN.keys(), ...rng.tables.keys()], `${place}.distribution`, "distribution");
  }
}

function checkAdapted(out, entry, rng, place) {
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

/** Each shared factor must be part of a factor that is its own. */
function checkAllShared(out, found) {
  for (const [name, entry] of found) {
    for (const [part, tensor] of entry.role === "adapted" ? entry.adapter : []) {
      if (!isShared(tensor) || typeof tensor.coding.of !== "string") continue;
      const fault = sharedFault(found.get(tensor.coding.of), entry, part);
      const place = `${placeOf(name)}.adapter.${part}.coding.of`;
      if (fault) out.add(fault[0], place, `${quote(tensor.coding.of)} ${fault[1]}`);
    }
  }
}

function sharedFault(owner, entry, part) {
  const whole = owner?.role === "adapted" ? owner.adapter.get(part) : undefined;
  if (!whole) return ["tied", `is not a parameter whose adapter has ${part}`];
  if (isShared(whole)) return ["tied", `has a ${part} that is itself part of another one`];
  if (whole.dtype !== entry.adapter.get(part).dtype) return ["tied", `has ${part} in ${whole.dtype}`];
  if (owner.batch_dims !== undefined || entry.batch_dims !== undefined) {
    return ["shape", "and this parameter must both be one matrix"];
  }
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

function checkTies(out, found, declared) {
  const grounded = new Set([...found].filter(([, entry]) => entry.role !== "tied").map(([name]) => name));
  for (const start of found.keys()) {
    const path = new Set();
    for (let name = start; found.has(name) && !grounded.has(name); name = found.get(name).to) {
      const place = `${placeOf(name)}.to`;
      if (path.has(name)) {
        out.add("tied", place, "the ties form a cycle");
        break;
      }
      path.add(name);
      const { to } = found.get(name);
      if (!declared.has(to)) out.add("tied", place, `the parameter ${quote(to)} does not exist`);
    }
    path.forEach((name) => grounded.add(name));
  }
}

/** What stands before `lora_A` in the names of a parameter's adapter (spec/v1/container.md, section 5). */
export const adapterPrefix = (parameter) => {
  const start = parameter.lastIndexOf(".") + 1;
  return parameter.slice(start) === "weight" ? parameter.slice(0, start) : `${parameter}_`;
};

/** Whether a tensor of an adapter comes from the seed. */
export const isDrawn = (tensor) => tensor.coding?.id === DRAWN;

/** Whether a factor of an adapter is part of another adapter's. */
export const isShared = (tensor) => tensor.coding?.id === SHARED;

/** Place, distribution, scale and dtype of all tensors from the seed. */
export function* scaled(parameters) {
  for (const [name, entry] of parameters) {
    const place = placeOf(name);
    if (isGenerated(entry)) yield { ...entry, place };
    for (const [part, tensor] of entry.adapter ?? []) {
      if (isDrawn(tensor)) yield { ...tensor.coding, dtype: tensor.dtype, place: `${place}.adapter.${part}.coding` };
    }
  }
}

/** The names of all tensors from the seed. */
function* drawn(found) {
  for (const [name, entry] of found) {
    if (isGenerated(entry)) yield name;
    if (entry.role !== "adapted") continue;
    for (const [part, tensor] of entry.adapter) if (isDrawn(tensor)) yield adapterPrefix(name) + part;
  }
}

function checkStreams(out, found) {
  const seen = new Map();
  for (const name of drawn(found)) {
    const stream = streamOf(name).join();
    if (seen.has(stream)) out.add("name", placeOf(name), `has the same stream as ${quote(seen.get(stream))}; rename one of them`);
    seen.set(stream, name);
  }
}
