/**
 * The tensors that a descriptor calls for, and whether a file holds just these (spec/v1/container.md, section 5).
 *
 * Parameters are requested by name, tensors of the file by record. If one name would have two meanings,
 * the pack is refused.
 */

import { codedTensors, compressedFault } from "./codings.js";
import { MOST, PackError, problem } from "./errors.js";
import { filePlace, fileTensor } from "./files.js";
import { factorDims } from "./merge.js";
import { ADAPTER_PARTS, adapterPrefix } from "./adapters.js";

/** The part name of a stored parameter without a coding. Other parts have their names in the file. */
export const VALUE = "value";

const AGAIN = "Its writer gave it wrong names, or it was changed: get it again from whoever made it.";

/**
 * Every tensor that a descriptor calls for, as `{name, parameter, part, owner, dtype, shape, sha256}`: tables and
 * files, whose `parameter` is null, then parts of parameters. `owner` is only for errors; `entry`: the entry of the part.
 *
 * The shape of a compressed tensor is null: only the file contains its size.
 */
export function* expectedTensors({ rng, parameters, files }) {
  for (const [id, { bits, sha256 }] of rng.tables) {
    const shape = [2n ** BigInt(bits)];
    yield { name: tableTensor(id), parameter: null, part: id, owner: `rng.tables.${id}`, dtype: "float32", shape, sha256 };
  }
  for (const [name, entry] of files) {
    const [tensor] = expectedParts(fileTensor(name), entry);
    yield { ...tensor, parameter: null, owner: filePlace(name) };
  }
  for (const [name, entry] of parameters) yield* expectedParts(name, entry);
}

/** Every tensor that one parameter's entry calls for. */
export function* expectedParts(parameter, entry) {
  const { role, dtype, shape, sha256, coding } = entry;
  const of = { parameter, owner: parameter, entry };
  if (role === "stored" && coding) {
    yield* codedParts(of, parameter, "", entry);
  } else if (role === "stored") {
    yield { ...of, name: parameter, part: VALUE, dtype, shape, sha256 };
  } else if (role === "adapted") {
    for (const [part, tensor] of adapterEntries(parameter, entry)) {
      if (tensor.coding) yield* codedParts({ ...of, entry: tensor }, tensor.name, `${part}.`, tensor);
      else yield { ...of, name: tensor.name, part, dtype: tensor.dtype, shape: tensor.shape, sha256: tensor.sha256 };
    }
  }
}

function* codedParts(of, name, prefix, entry) {
  for (const tensor of codedTensors(entry)) {
    yield { ...of, ...tensor, name: `${name}.${tensor.part}`, part: prefix + tensor.part };
  }
}

/** The tensors of an adapter by part, each as a stored parameter's entry, with its name. */
export function adapterEntries(parameter, entry) {
  const { rank, adapter, shared_factor: shared } = entry;
  const [batch, dOut, dIn] = factorDims(entry);
  const each = (factor) => (factor === shared ? [] : batch);
  const shapes = {
    lora_A: [...each("lora_A"), rank, dIn],
    lora_B: [...each("lora_B"), dOut, rank],
    beta: [1n],
    magnitude: [...batch, dOut],
    lambda_b: [...batch, dOut],
    lambda_d: [...batch, rank],
    scale_in: [...batch, dIn],
    scale_out: [...batch, dOut],
  };
  const prefix = adapterPrefix(parameter);
  return new Map([...adapter].map(([part, tensor]) => [part, { ...tensor, name: prefix + part, shape: shapes[part] }]));
}

/** The name of the tensor of a pack's own table. */
export const tableTensor = (id) => `lottapack.tables.${id}`;

/** The tensors that are called for, and every part that an adapter can have: the layer that is trained has them all. */
function* taken(descriptor) {
  yield* expectedTensors(descriptor);
  for (const [owner, { role }] of descriptor.parameters) {
    if (role !== "adapted") continue;
    for (const part of ADAPTER_PARTS) yield { name: adapterPrefix(owner) + part, parameter: owner, owner };
  }
}

/** Each name that would have two meanings, and a message with both. */
function clashes(descriptor) {
  const { parameters } = descriptor;
  const found = new Map();
  for (const name of parameters.keys()) {
    if (isReserved(name)) found.set(name, "is a name that the format keeps for itself, and no parameter can have it");
  }
  const owners = new Map();
  for (const { name, parameter, owner } of taken(descriptor)) {
    if (name === parameter || owners.get(name) === owner) continue;
    if (owners.has(name) || parameters.has(name)) {
      const other = owners.has(name) ? `of ${owners.get(name)}` : `the parameter ${name}`;
      if (!found.has(name)) found.set(name, `would be both a tensor of ${owner} and ${other}`);
    }
    if (!owners.has(name)) owners.set(name, owner);
  }
  return found;
}

function isReserved(name) {
  const words = name.split(".");
  return name === "__metadata__" || words[0] === "lottapack" || words.at(-1) === "lottapack_recipe";
}

/**
 * Check that a file has the tensors that its descriptor requires, each with one use; returns their SHA-256 by name.
 * Throws PackError with all differences.
 */
export function checkAgreement(descriptor, tensors) {
  const clashing = clashes(descriptor);
  const problems = [...clashing].map(([name, message]) => problem("two-roles", name, message));
  const digests = new Map();
  for (const due of expectedTensors(descriptor)) {
    digests.set(due.name, due.sha256);
    if (clashing.has(due.name)) continue;
    const found = tensors.get(due.name);
    if (!found) {
      problems.push(problem("missing", due.name, `${due.owner} needs this tensor and the file lacks it`));
    } else if (!due.shape) {
      const fault = compressedFault(due.owner, due.entry, found);
      if (fault) problems.push(problem("mismatch", due.name, fault));
    } else if (found.dtype !== due.dtype || found.shape.join() !== due.shape.join()) {
      const said = ({ dtype, shape }) => `${dtype} [${shape.join(", ")}]`;
      problems.push(problem("mismatch", due.name, `the file holds ${said(found)}, the descriptor says ${said(due)}`));
    }
  }
  for (const name of tensors.keys()) {
    if (!digests.has(name)) problems.push(problem("unused", name, "no entry calls for this tensor"));
  }
  if (problems.length) throw new PackError("agreement", problems.slice(0, MOST), AGAIN);
  return digests;
}
