/** The graph of a model, an ONNX ModelProto whose weights a pack gives (spec/v1/files.md, section 5). */

import { PackError, problem } from "./errors.js";
import { fields, integers, textOf } from "./protobuf.js";
import { cut, quote } from "./text.js";

const LOCATION = "lottapack";
const EXTERNAL = 1n;
const MOST_DEPTH = 32;
const AGAIN = "Write it again: lottapack export PACK -o FOLDER --format onnx --weights none";
const OTHER = "It is the graph of another model.";

/** ONNX's numbers of dtypes (TensorProto.DataType), and the bytes of an element. */
const ELEMENTS = new Map([
  [1, ["float32", 4]],
  [2, ["uint8", 1]],
  [3, ["int8", 1]],
  [5, ["int16", 2]],
  [6, ["int32", 4]],
  [7, ["int64", 8]],
  [9, ["bool", 1]],
  [10, ["float16", 2]],
  [11, ["float64", 8]],
  [16, ["bfloat16", 2]],
]);

/** Where tensors and messages with tensors lie in each kind of message: field by number. */
const MESSAGES = {
  model: { 7: "graph", 20: "training", 25: "function" },
  graph: { 1: "node", 5: "initializer", 11: "value", 12: "value", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  function: { 7: "node", 11: "attribute" },
  training: { 1: "graph", 2: "graph" },
};

const refused = (where, message, hint = AGAIN, kind = "graph") => new PackError("graph", [problem(kind, where, message)], hint);

/**
 * Read a graph: `{weights, own, constants, inputs, outputs, nodes}`.
 *
 * `weights`: by name as `{dtype, shape, nbytes, at}`, `at` being the place of its location in `bytes`; `own`: the names of
 * initializers that it holds itself; `constants`: of its other tensors, and of what its nodes hold; `inputs` and `outputs`: `{name, dtype, dims}`, a free size being its name or an empty text; `nodes`: `{kind, inputs, outputs}` of the
 * main graph. Throws PackError for what is not a graph, and for data that lie anywhere but in the pack: a runtime would
 * read them from a path that the graph names.
 */
export function readGraph(bytes) {
  const found = { weights: new Map(), own: [], constants: [], inputs: [], outputs: [], nodes: [] };
  if (textOf(bytes, { begin: 4, end: 8 }) === "ORTM") throw refused("model.onnx", "a file in ONNX Runtime's own format, not in ONNX");
  let graphs = 0;
  try {
    const seen = (kind, message, path) => {
      if (kind === "graph" && path.length === 1) graphs += 1;
      if (kind === "initializer" && path.length === 2 && path[0] === "graph") addWeight(found, bytes, message);
      else if (kind === "initializer" || kind === "tensor") found.constants.push(nameOfInner(bytes, message));
      if (path.length !== 2 || path[0] !== "graph") return;
      if (kind === "node") found.nodes.push(readNode(bytes, message));
      if (kind === "node" && found.nodes.at(-1).kind === "Constant") found.constants.push(...found.nodes.at(-1).outputs);
      if (kind === "value") found[message.field === 11 ? "inputs" : "outputs"].push(readValue(bytes, message));
    };
    walk(bytes, { begin: 0, end: bytes.length }, "model", [], seen);
  } catch (fault) {
    if (fault instanceof RangeError) throw refused("model.onnx", `the graph cannot be read: ${fault.message}`);
    throw fault;
  }
  if (graphs !== 1) throw refused("model.onnx", `the file holds ${graphs} graphs, and a model has one`);
  const held = new Set([...found.weights.keys(), ...found.own]);
  found.inputs = found.inputs.filter(({ name }) => !held.has(name)); // older graphs list initializers there too
  return found;
}

/** Refuse a graph that asks for a weight which the pack does not have so, and one with weights of its own. */
export function checkGraph({ weights, own, constants }, pack) {
  const { parameters } = pack.descriptor;
  const held = [...own, ...constants].find((name) => parameters.has(name));
  if (held !== undefined) throw refused(cut(held, 200), "the graph holds this weight itself, in place of the pack's", AGAIN, "weight");
  if (!weights.size && parameters.size) throw refused("model.onnx", "the graph asks for none of the pack's weights", AGAIN, "weight");
  for (const [name, { dtype, shape }] of weights) {
    const where = cut(name, 200);
    if (!parameters.has(name)) {
      throw refused(where, "the graph asks for this weight, which the pack does not have", OTHER, "weight");
    }
    const entry = parameters.get(pack.resolve(name));
    const floats = dtype.includes("float") && entry.dtype.includes("float");
    if (String(entry.shape) === String(shape) && (entry.dtype === dtype || floats)) continue;
    const message = `the graph asks for ${dtype} of shape [${shape.join(", ")}]; the pack has ${entry.dtype} of shape [${entry.shape.join(", ")}]`;
    throw refused(where, message, OTHER, "weight");
  }
}

/** Give each weight a location of its own, as a runtime that finds data by location needs it. Returns names by location. */
export function separate(bytes, { weights }) {
  const places = new Map();
  for (const [name, { at }] of weights) {
    const place = `w${String(places.size).padStart(LOCATION.length - 1, "0")}`; // as long as before: no length changes
    bytes.set(new TextEncoder().encode(place), at);
    places.set(name, place);
  }
  return places;
}

function walk(bytes, message, kind, path, seen) {
  if (path.length > MOST_DEPTH) throw new RangeError(`it is nested more than ${MOST_DEPTH} deep`);
  for (const field of fields(bytes, message)) {
    const inner = MESSAGES[kind]?.[field.number];
    if (inner === undefined || field.value !== undefined) continue;
    seen(inner, { begin: field.begin, end: field.end, field: field.number }, [...path, inner]);
    walk(bytes, field, inner, [...path, inner], seen);
  }
}

/** A TensorProto: dims, type, name, and every note about external data. */
function readTensor(bytes, message) {
  const tensor = { name: "", dims: [], type: 0n, external: false, entries: [] };
  for (const field of fields(bytes, message)) {
    if (field.number === 1) {
      tensor.dims.push(...integers(bytes, field));
    } else if (field.number === 2 && field.value !== undefined) tensor.type = field.value;
    else if (field.number === 8 && field.value === undefined) tensor.name = textOf(bytes, field);
    else if (field.number === 13 && field.value === undefined) {
      tensor.external = true;
      tensor.entries.push(readEntry(bytes, field));
    } else if (field.number === 14 && field.value !== undefined && field.value !== 0n) {
      tensor.external = true;
      tensor.location = field.value;
    } else if ([3, 4, 5, 6, 7, 9, 10, 11].includes(field.number) && field.begin !== field.end) tensor.holds = true;
  }
  return tensor;
}

/** An entry of external_data: key, value, and where the value lies. */
function readEntry(bytes, message) {
  const entry = { key: "", value: "", at: 0 };
  for (const field of fields(bytes, message)) {
    if (field.value !== undefined) continue;
    if (field.number === 1) entry.key = textOf(bytes, field);
    if (field.number === 2) Object.assign(entry, { value: textOf(bytes, field), at: field.begin });
  }
  return entry;
}

function addWeight({ weights, own }, bytes, message) {
  const { name, dims, type, external, entries, location, holds } = readTensor(bytes, message);
  if (!external) {
    own.push(name);
    return;
  }
  const [dtype, size] = ELEMENTS.get(Number(type)) ?? [];
  const count = dims.reduce((product, dim) => product * dim, 1n);
  const due = { location: LOCATION, offset: "0", length: String(count * BigInt(size ?? 0)) };
  const given = Object.fromEntries(entries.map(({ key, value }) => [key, value]));
  const same = entries.length === 3 && Object.entries(due).every(([key, value]) => given[key] === value);
  if (!dtype || location !== EXTERNAL || !same || holds) throw elsewhere(name, entries);
  if (weights.has(name)) throw refused(cut(name, 200), "the graph has two weights of this name");
  const { at } = entries.find(({ key }) => key === "location");
  weights.set(name, { dtype, shape: dims, nbytes: Number(due.length), at });
}

/** The name of a tensor that is not an initializer of the main graph, and so may not lie outside. */
function nameOfInner(bytes, message) {
  const { name, external, entries } = readTensor(bytes, message);
  if (external) throw elsewhere(name, entries);
  return name;
}

function elsewhere(name, entries) {
  const location = entries.find(({ key }) => key === "location")?.value ?? "nowhere";
  const message = `the graph reads this tensor from ${quote(cut(location, 200))}, and only weights of the pack may lie outside a graph`;
  return refused(cut(name, 200) || "model.onnx", message, AGAIN, "external");
}

function readNode(bytes, message) {
  const node = { kind: "", inputs: [], outputs: [] };
  for (const field of fields(bytes, message)) {
    if (field.value !== undefined) continue;
    if (field.number === 1) node.inputs.push(textOf(bytes, field));
    if (field.number === 2) node.outputs.push(textOf(bytes, field));
    if (field.number === 4) node.kind = textOf(bytes, field);
  }
  return node;
}

/** A ValueInfoProto of a tensor: its name, dtype and dims. */
function readValue(bytes, message) {
  const value = { name: "", dtype: "", dims: [] };
  for (const field of fields(bytes, message)) {
    if (field.value !== undefined) continue;
    if (field.number === 1) value.name = textOf(bytes, field);
    if (field.number === 2) {
      for (const type of only(bytes, field, 1)) {
        for (const part of fields(bytes, type)) {
          if (part.number === 1 && part.value !== undefined) value.dtype = ELEMENTS.get(Number(part.value))?.[0] ?? "";
          if (part.number === 2 && part.value === undefined) value.dims = [...only(bytes, part, 1)].map((dim) => readDim(bytes, dim));
        }
      }
    }
  }
  return value;
}

function* only(bytes, message, number) {
  for (const field of fields(bytes, message)) if (field.number === number && field.value === undefined) yield field;
}

function readDim(bytes, message) {
  for (const field of fields(bytes, message)) {
    if (field.number === 1 && field.value !== undefined) return Number(field.value);
    if (field.number === 2 && field.value === undefined) return textOf(bytes, field);
  }
  return "";
}
