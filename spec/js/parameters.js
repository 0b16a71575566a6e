/** Reading and checking the descriptor's `parameters` (spec/v1/descriptor.md, sections 3 and 4). */

import { ADAPTER_PARTS, adapterPrefix, checkAdapted, checkSlices, isDrawn } from "./adapters.js";
import { BOOLEAN, FLOAT, INTEGER, INTEGERS, TEXT, exactRecord, fieldsOf, optional, record } from "./records.js";
import { GENERATED, ITEM_SIZE, shapeFault } from "./shapes.js";
import { streamOf } from "./stream.js";
import { kindOf, quote } from "./text.js";
import { checkCoding, checkConstant, checkDistribution, isGenerated, placeOf } from "./values.js";

const MAX_PARAMETERS = 100_000;
const MAX_NAME_BYTES = 1024;
const GROUPS = ["embedding", "head", "norm", "bias", "buffer", "other"];
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
  checkSlices(out, found);
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
