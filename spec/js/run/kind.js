/** What one can do with a graph: draw into it, let it write, or run it on any input. */

const [LEAST, MOST] = [6, 64]; // sides of an image that one can draw
const PAST = /^(?:input\.)?past_key_values\./;
const NEXT = /(?:past_key_values|present)\.(.*)$/s;

/** `{kind: "image" | "text" | "other", ...}`: what the page needs to feed the graph. */
export function kindOf(graph) {
  return textOf(graph) ?? imageOf(graph) ?? { kind: "other" };
}

/** A decoder with a cache, as transformers' exporters write it, or null. */
function textOf({ inputs, outputs }) {
  const of = (name) => inputs.find((input) => input.name === name);
  const [ids, mask, positions] = ["input_ids", "attention_mask", "position_ids"].map(of);
  const logits = outputs.find(({ name }) => name === "logits");
  if (ids?.dtype !== "int64" || logits?.dims.length !== 3) return null;
  const next = new Map();
  for (const output of outputs) {
    const [, name] = output.name.match(NEXT) ?? [];
    if (name !== undefined && !next.has(name)) next.set(name, output);
  }
  const past = [];
  for (const input of inputs) {
    if (input === ids || input === mask || input === positions) continue;
    const output = next.get(input.name.replace(PAST, ""));
    if (!PAST.test(input.name) || !output || output.name === input.name || input.dims.length !== 4) return null;
    const [, heads, , width] = input.dims.map(Number);
    if (!(heads > 0 && width > 0)) return null;
    past.push({ input: input.name, output: output.name, dtype: input.dtype, dims: [1, heads, 0, width] });
  }
  return past.length ? { kind: "text", mask: mask?.name, positions: positions?.name, past } : null;
}

/** A small grey image whose output is one number a class, or null. */
function imageOf(graph) {
  const { inputs, outputs } = graph;
  const [input] = inputs;
  const classes = Number(outputs[0]?.dims.at(-1));
  if (inputs.length !== 1 || input.dtype !== "float32" || outputs.length !== 1) return null;
  if (!outputs[0].dtype.startsWith("float") || outputs[0].dims.length !== 2 || !(classes >= 2 && classes <= 100)) return null;
  const sizes = input.dims.slice(1).map(Number);
  if (sizes.length === 1 && !(sizes[0] > 0)) sizes[0] = featuresOf(graph, input.name);
  const side = sizes.length === 1 ? Math.sqrt(sizes[0]) : sizes.at(-1);
  const square = sizes.length === 1 ? [side * side] : [...(sizes.length === 3 ? [1] : []), side, side];
  if (!Number.isInteger(side) || side < LEAST || side > MOST || String(square) !== String(sizes)) return null;
  return { kind: "image", input: input.name, output: outputs[0].name, dims: [1, ...sizes], side, classes };
}

/** The width of an input that the graph leaves free: that of the first linear layer that reads it. */
function featuresOf({ nodes, weights }, name) {
  const first = nodes.find(({ inputs }) => inputs[0] === name);
  if (first?.kind !== "Gemm" && first?.kind !== "MatMul") return NaN;
  const turned = nodes.find(({ kind, outputs }) => kind === "Transpose" && outputs[0] === first.inputs[1]);
  const { shape } = weights.get(turned ? turned.inputs[0] : first.inputs[1]) ?? { shape: [] };
  if (shape.length !== 2) return NaN;
  return Number(first.kind === "Gemm" || turned ? shape[1] : shape[0]); // an exporter's Gemm reads [out, in]
}
