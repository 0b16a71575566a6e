/**
 * A graph that reads linear layers' weights as a pack has them: ONNX has no product with a transposed matrix, so exporters write
 * Transpose and MatMul, and a runtime either transposes at every token or holds such weights twice. Its FusedMatMul does neither.
 */

import { fields, integers, textOf } from "../protobuf.js";

const GRAPH = 7;
const OPSETS = 8;
const NODE = 1;
const DOMAIN = "com.microsoft";
const STANDARD = ["", "ai.onnx"];
const FUSED = ["float32", "float16"]; // that the runtime has FusedMatMul for
const TEXT = new TextEncoder();

/** The bytes of the same model with fused products. `weights`: those of readGraph(). */
export function fuse(bytes, { weights }) {
  const model = { begin: 0, end: bytes.length };
  const graph = [...fields(bytes, model)].find(({ number }) => number === GRAPH);
  const nodes = [...fields(bytes, graph)].filter(({ number, value }) => number === NODE && value === undefined);
  const read = nodes.map((node) => ({ node, ...readNode(bytes, node) }));
  if (read.some(({ nested }) => nested)) return bytes; // an inner graph may use any name
  const turned = transposes(bytes, read, weights, graph);
  if (!turned.size) return bytes;
  const outputs = new Set(turned.keys());
  const replaced = new Map(); // by where a node begins: the bytes in its place
  for (const { node, kind, inputs, outputs: made } of read) {
    if (kind === "Transpose" && outputs.has(made[0])) replaced.set(node.from, []);
    if (turned.has(inputs[1])) replaced.set(node.from, field(NODE, product(inputs[0], turned.get(inputs[1]), made[0])));
  }
  const inner = spliced(bytes, graph, replaced);
  const opset = field(OPSETS, [...field(1, [...TEXT.encode(DOMAIN)]), 16, 1]);
  const known = [...fields(bytes, model)].some((one) => one.number === OPSETS && nameOf(bytes, one) === DOMAIN);
  return joined([
    bytes.subarray(0, graph.from),
    Uint8Array.from([(GRAPH << 3) | 2, ...length(inner.length)]),
    inner,
    bytes.subarray(graph.to),
    Uint8Array.from(known ? [] : opset),
  ]);
}

/** The weight by the name of its transposed form, where only products read that. */
function transposes(bytes, read, weights, graph) {
  const found = new Map();
  for (const { kind, inputs, outputs, perm } of read) {
    const plain = perm.length === 0 || String(perm) === "1,0";
    const { shape = [], dtype } = weights.get(inputs[0]) ?? {};
    if (kind === "Transpose" && plain && shape.length === 2 && FUSED.includes(dtype)) found.set(outputs[0], inputs[0]);
  }
  for (const { kind, inputs } of read) {
    inputs.forEach((name, index) => (kind !== "MatMul" || index !== 1) && found.delete(name));
  }
  for (const output of fields(bytes, graph)) if (output.number === 12) found.delete(nameOf(bytes, output));
  return found;
}

function nameOf(bytes, message) {
  for (const one of fields(bytes, message)) if (one.number === 1 && one.value === undefined) return textOf(bytes, one);
  return "";
}

function readNode(bytes, message) {
  const node = { kind: "", inputs: [], outputs: [], perm: [], nested: false };
  let domain = "";
  for (const one of fields(bytes, message)) {
    if (one.value !== undefined) continue;
    if (one.number === 1) node.inputs.push(textOf(bytes, one));
    if (one.number === 2) node.outputs.push(textOf(bytes, one));
    if (one.number === 4) node.kind = textOf(bytes, one);
    if (one.number === 7) domain = textOf(bytes, one);
    if (one.number !== 5) continue;
    for (const part of fields(bytes, one)) {
      if (part.number === 8) node.perm.push(...integers(bytes, part));
      if (part.number === 6 || part.number === 11) node.nested = true;
    }
  }
  if (!STANDARD.includes(domain)) node.kind = `${domain}.${node.kind}`; // another operator, whatever its name
  return node;
}

/** A NodeProto: FusedMatMul(left, right transposed). */
function product(left, right, output) {
  const text = (number, value) => field(number, [...TEXT.encode(value)]);
  const attribute = [...text(1, "transB"), 24, 1, 160, 1, 2];
  return [...text(1, left), ...text(1, right), ...text(2, output), ...text(4, "FusedMatMul"), ...field(5, attribute), ...text(7, DOMAIN)];
}

function spliced(bytes, graph, replaced) {
  const pieces = [];
  let at = graph.begin;
  for (const { from, to } of fields(bytes, graph)) {
    if (!replaced.has(from)) continue;
    pieces.push(bytes.subarray(at, from), Uint8Array.from(replaced.get(from)));
    at = to;
  }
  pieces.push(bytes.subarray(at, graph.end));
  return joined(pieces);
}

const field = (number, content) => [(number << 3) | 2, ...length(content.length), ...content];

function length(count) {
  const found = [];
  for (; count > 127; count = Math.floor(count / 128)) found.push((count % 128) | 128);
  return [...found, count];
}

function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
