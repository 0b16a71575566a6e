/** Graphs from strangers: what is read, what is refused, and what becomes of the products of linear layers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkGraph, fromBytes, open, readGraph, separate } from "../lottapack.js";
import { fuse } from "../run/fuse.js";
import { kindOf } from "../run/kind.js";
import { packs } from "./vectors.js";

const text = new TextEncoder();
const length = (count) => (count > 127 ? [(count % 128) | 128, ...length(Math.floor(count / 128))] : [count]);
const key = (number, wire) => length(number * 8 + wire);
const bytesOf = (value) => (typeof value === "string" ? [...text.encode(value)] : value);
const field = (number, value) => [...key(number, 2), ...length(bytesOf(value).length), ...bytesOf(value)];
const integer = (number, value) => [...key(number, 0), ...length(value)];
const entry = (name, value) => field(13, [...field(1, name), ...field(2, value)]);

/** A TensorProto of float32 whose data lie outside. */
function outside(name, dims, { location = "lottapack", offset = "0", type = 1, size = String((type === 11 ? 8 : 4) * dims.reduce((a, b) => a * b, 1)), more = [] } = {}) {
  const place = [...entry("location", location), ...entry("offset", offset), ...entry("length", size)];
  return [...dims.flatMap((dim) => integer(1, dim)), ...integer(2, type), ...field(8, name), ...place, ...integer(14, 1), ...more];
}

const node = (kind, inputs, output, attributes = []) => [
  ...inputs.flatMap((name) => field(1, name)),
  ...field(2, output),
  ...field(4, kind),
  ...attributes.flatMap((one) => field(5, one)),
];
const value = (name, dims) => {
  const shape = dims.flatMap((dim) => field(1, typeof dim === "number" ? integer(1, dim) : field(2, dim)));
  return [...field(1, name), ...field(2, field(1, [...integer(1, 1), ...field(2, shape)]))];
};

function model({ weights = [], nodes = [], inputs = [], outputs = [], more = [], graphs = 1 }) {
  const graph = [
    ...nodes.flatMap((one) => field(1, one)),
    ...weights.flatMap((one) => field(5, one)),
    ...inputs.flatMap((one) => field(11, one)),
    ...outputs.flatMap((one) => field(12, one)),
  ];
  return Uint8Array.from([...integer(1, 8), ...Array(graphs).fill(field(7, graph)).flat(), ...more]);
}

test("weights, inputs and outputs are read", () => {
  const bytes = model({
    weights: [outside("0.weight", [5, 64])],
    nodes: [node("Gemm", ["x", "0.weight"], "y")],
    inputs: [value("x", ["batch", "s1"])],
    outputs: [value("y", ["batch", 5])],
  });
  const graph = readGraph(bytes);
  const { dtype, shape, nbytes } = graph.weights.get("0.weight");
  assert.deepEqual([dtype, shape, nbytes], ["float32", [5n, 64n], 1280]);
  assert.deepEqual(graph.inputs, [{ name: "x", dtype: "float32", dims: ["batch", "s1"] }]);
  assert.deepEqual(graph.outputs, [{ name: "y", dtype: "float32", dims: ["batch", 5] }]);
  const { kind, side, classes } = kindOf(graph);
  assert.deepEqual([kind, side, classes], ["image", 8, 5]);
});

test("each weight gets a location of its own, and nothing else changes", () => {
  const bytes = model({ weights: [outside("a", [2]), outside("b", [3])] });
  const before = bytes.slice();
  const graph = readGraph(bytes);
  assert.deepEqual([...separate(bytes, graph)], [["a", "w00000000"], ["b", "w00000001"]]);
  assert.equal(bytes.length, before.length);
  assert.equal(bytes.filter((byte, index) => byte !== before[index]).length, 18);
});

const inner = (tensor) => [...field(1, "value"), ...field(5, tensor)];
const ELSEWHERE = {
  "a path": { weights: [outside("w", [2], { location: "/etc/passwd" })] },
  "the runtime's own memory": { weights: [outside("w", [2], { location: "*/_ORT_MEM_ADDR_/*" })] },
  "an offset": { weights: [outside("w", [2], { offset: "8" })] },
  "another length": { weights: [outside("w", [2], { size: "9" })] },
  "a fourth entry": { weights: [outside("w", [2], { more: entry("checksum", "0") })] },
  "a second location": { weights: [outside("w", [2], { more: entry("location", "x") })] },
  "data of its own as well": { weights: [outside("w", [2], { more: field(9, [1, 2, 3, 4]) })] },
  "an odd data_location": { weights: [outside("w", [2], { more: integer(14, 2) })] },
  "entries without a data_location": { weights: [[...integer(1, 2), ...integer(2, 1), ...field(8, "w"), ...entry("location", "x")]] },
  "a constant": { nodes: [node("Constant", [], "c", [inner(outside("w", [2]))])] },
  "a list of a node": { nodes: [node("Odd", [], "c", [[...field(1, "v"), ...field(10, outside("w", [2]))]])] },
  "an inner graph": { nodes: [node("If", [], "c", [[...field(1, "then_branch"), ...field(6, field(5, outside("w", [2])))]])] },
  "a sparse weight": { nodes: [node("Constant", [], "c", [[...field(1, "v"), ...field(22, field(1, outside("w", [2])))]])] },
  "a function": { more: field(25, field(7, node("Constant", [], "c", [inner(outside("w", [2], { location: "x" }))]))) },
  "what is for training": { more: field(20, field(1, field(5, outside("w", [2])))) },
};

for (const [what, parts] of Object.entries(ELSEWHERE)) {
  test(`data outside of the pack are refused: ${what}`, () => {
    assert.throws(() => readGraph(model(parts)), ({ name, section, problems: [{ kind, where }] }) => {
      assert.deepEqual([name, section, kind, where], ["PackError", "graph", "external", "w"]);
      return true;
    });
  });
}

const WRONG = {
  "nothing": new Uint8Array(),
  "text": text.encode("what is this?"),
  "two graphs": model({ graphs: 2 }),
  "a part longer than the whole": Uint8Array.from([...key(7, 2), 200, 1]),
  "a number without an end": Uint8Array.from([8, 255, 255]),
  "ONNX Runtime's own format": Uint8Array.from([8, 1, 8, 1, ...text.encode("ORTM")]),
  "two weights of one name": model({ weights: [outside("w", [2]), outside("w", [2])] }),
  "too deep": model({ nodes: [deep(40)] }),
};

function deep(count) {
  return node("If", [], "c", count ? [field(6, field(1, deep(count - 1)))] : []);
}

for (const [what, bytes] of Object.entries(WRONG)) {
  test(`not a graph: ${what}`, () => {
    assert.throws(() => readGraph(bytes), { name: "PackError", section: "graph" });
  });
}

test("every prefix and every changed byte of a graph is read or refused", () => {
  const whole = model({ weights: [outside("w", [2])], nodes: [node("MatMul", ["x", "w"], "y")], inputs: [value("x", [1])] });
  for (let at = 0; at < whole.length; at += 1) {
    for (const bytes of [whole.slice(0, at), Object.assign(whole.slice(), { [at]: 255 - whole[at] })]) {
      try {
        readGraph(bytes);
      } catch (fault) {
        assert.equal(fault.name, "PackError", String(fault.stack));
      }
    }
  }
});

test("a graph with weights of its own is refused", async () => {
  const pack = await open(fromBytes(packs("valid").find(({ name }) => name === "every_role").bytes));
  const [name, { shape }] = [...pack.descriptor.parameters].find(([, { role, dtype }]) => role === "adapted" && dtype === "float32");
  const inside = (called) => [...integer(1, 1), ...integer(2, 1), ...field(8, called), ...field(9, [0, 0, 128, 63])];
  const asked = outside(name, shape.map(Number));
  checkGraph(readGraph(model({ weights: [asked, inside("frequencies")], inputs: [value("frequencies", [1])] })), pack);
  const another = [...pack.descriptor.parameters.keys()].find((one) => one !== name);
  const holding = field(5, inside("")); // an attribute's tensor
  const odd = [
    [{ weights: [asked, inside(another)] }, null],
    [{ weights: [asked], nodes: [node("Constant", [], another, [holding])] }, null],
    [{ weights: [asked], nodes: [node("Constant", [], "c", [field(5, inside(another))])] }, null],
    [{ weights: [inside("frequencies")] }, "model.onnx"],
    [{}, "model.onnx"],
  ];
  checkGraph(readGraph(model({ weights: [asked], nodes: [node("Constant", [], "c", [holding])] })), pack);
  for (const [parts, where] of odd) {
    assert.throws(() => checkGraph(readGraph(model(parts)), pack), ({ section, problems: [problem] }) => {
      assert.deepEqual([section, problem.kind], ["graph", "weight"]);
      assert.ok(where === null ? pack.descriptor.parameters.has(problem.where) : problem.where === where);
      return true;
    });
  }
});

test("an initializer that older graphs list as an input is none", () => {
  const inside = [...integer(1, 1), ...integer(2, 1), ...field(8, "c"), ...field(9, [0, 0, 128, 63])];
  const graph = readGraph(model({ weights: [outside("w", [2]), inside], inputs: [value("x", [1]), value("w", [2]), value("c", [1])] }));
  assert.deepEqual(graph.inputs.map(({ name }) => name), ["x"]);
});

test("a graph of another model is refused, with the weight", async () => {
  const pack = await open(fromBytes(packs("valid").find(({ name }) => name === "every_role").bytes));
  const [name, found] = [...pack.descriptor.parameters].find(([, { role, dtype }]) => role === "adapted" && dtype === "float32");
  const shape = found.shape.map(Number);
  const of = (weight, dims) => readGraph(model({ weights: [outside(weight, dims)] }));
  checkGraph(of(name, shape), pack);
  for (const [weight, dims] of [["other.weight", shape], [name, [...shape].reverse().concat(1)]]) {
    assert.throws(() => checkGraph(of(weight, dims), pack), ({ section, problems: [{ kind, where }], hint }) => {
      assert.deepEqual([section, kind, where, hint], ["graph", "weight", weight, "It is the graph of another model."]);
      return true;
    });
  }
});

const turned = (more = []) =>
  model({
    weights: [outside("w", [5, 3])],
    nodes: [node("Transpose", ["w"], "t"), node("MatMul", ["x", "t"], "y"), ...more],
    inputs: [value("x", ["n", 3])],
    outputs: [value("y", ["n", 5])],
  });
const kinds = (bytes) => readGraph(bytes).nodes.map(({ kind, inputs }) => `${kind}(${inputs})`);

test("a product with a transposed weight is fused", () => {
  const bytes = turned();
  const fused = fuse(bytes, readGraph(bytes));
  assert.deepEqual(kinds(fused), ["FusedMatMul(x,w)"]);
  assert.deepEqual([...readGraph(fused).weights.keys()], ["w"]);
  assert.match(new TextDecoder().decode(fused), /com\.microsoft[\s\S]*com\.microsoft/); // of the node, and of the model
});

test("a product of another domain, or of numbers that are not fused, is left as it is", () => {
  const pair = ({ before = "", after = "", type = 1 }) =>
    model({
      weights: [outside("w", [5, 3], { type })],
      nodes: [[...node("Transpose", ["w"], "t"), ...field(7, before)], [...node("MatMul", ["x", "t"], "y"), ...field(7, after)]],
    });
  for (const odd of [{ before: "org.example" }, { after: "org.example" }, { type: 11 }]) {
    const bytes = pair(odd);
    assert.equal(fuse(bytes, readGraph(bytes)), bytes);
  }
  const bytes = pair({ before: "ai.onnx" });
  assert.deepEqual(kinds(fuse(bytes, readGraph(bytes))), ["FusedMatMul(x,w)"]);
});

test("a transposed weight that something else reads is left as it is", () => {
  for (const more of [[node("Relu", ["t"], "z")], [node("MatMul", ["t", "x"], "z")], [node("Transpose", ["y"], "z"), node("If", [], "c", [field(6, [])])]]) {
    const bytes = turned(more);
    assert.equal(fuse(bytes, readGraph(bytes)), bytes);
  }
});
