/** The worker behind the page: reads a pack and its graph, makes the weights, and runs the model. */

import { checkGraph, fromBytes, open, readGraph } from "../lottapack.js";
import { summarise } from "../page/summary.js";
import { download, keep, readFile } from "../page/download.js";
import { RunError, refusalOf } from "../page/errors.js";
import { kindOf } from "./kind.js";
import { memory, run, session, start } from "./runtime.js";
import { feedOf, feedsFrom } from "./tensors.js";
import { generate } from "./weights.js";
import { endsOf, tokenizerOf, write } from "./writer.js";

const MOST_BYTES = 2n ** 31n; // of weights: WebAssembly has 4 GiB, and the runtime copies and folds some
const SMALL = 4e6; // bytes of a pack from which threads are worth their start
const GRAPH = "model.onnx";
const TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];

let model = null;
let stopped = false;

onmessage = async ({ data }) => {
  if (data.stop) {
    stopped = true;
    return;
  }
  try {
    if (data.open) await opened(data.open);
    else if (data.draw) await drawn(data.draw);
    else if (data.write) await written(data.write);
    else if (data.feed) await fed(data.feed);
  } catch (error) {
    const refused = refusalOf(error, "model");
    if (refused) postMessage({ refused, during: data.open ? "open" : "run" });
    else postMessage({ crashed: String(error?.stack ?? error) });
  }
};

/** `pack`, `graph`: a File or an address, or null; `files`: File by name; `device`, `cores`, `isolated`. */
async function opened({ pack: from, graph: beside, files: dropped, device, cores, isolated }) {
  const began = performance.now();
  const spent = {};
  const took = (stage, since) => (spent[stage] = (spent[stage] ?? 0) + performance.now() - since);
  const tell = (stage) => (share) => postMessage({ stage, progress: share });
  let starting = null;
  const begin = (size) => {
    const threads = isolated && size > SMALL ? Math.min(cores, 8) : 1;
    const since = performance.now();
    starting ??= start(device, threads).finally(() => took("runtime", since));
    starting.catch(() => {}); // it is awaited below, or something else fails first
  };
  const [bytes, besides] = await Promise.all([
    bytesOf(from, { started: begin, progress: tell("download") }),
    beside ? bytesOf(beside) : null,
  ]);
  took("download", began);
  begin(bytes.length);
  let since = performance.now();
  const pack = await open(fromBytes(bytes));
  pack.checkLimit(MOST_BYTES);
  const files = new Map();
  for (const name of pack.descriptor.files.keys()) files.set(name, await pack.file(name)); // checked, used or not
  for (const [name, file] of Object.entries(dropped ?? {})) files.set(name, new Uint8Array(await file.arrayBuffer()));
  const text = besides?.slice() ?? files.get(GRAPH);
  if (!text) {
    const hint = "Where torch is: lottapack export PACK -o FOLDER --format onnx --weights none. Drop the pack or the graph of that folder.";
    throw new RunError("graph", "files", "the pack holds no graph (model.onnx), which says what the model computes", hint);
  }
  const graph = readGraph(text);
  checkGraph(graph, pack);
  took("checks", since);
  since = performance.now();
  const { weights, workers } = await generate(pack, bytes, graph.weights, { cores, progress: tell("generate") });
  took("weights", since);
  postMessage({ stage: "session" });
  const runtime = await starting;
  since = performance.now();
  const held = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  const made = await session(runtime, text, graph, weights);
  took("session", since);
  since = performance.now();
  const spec = kindOf(graph);
  model = { ort: runtime.ort, session: made, graph, spec, files };
  if (spec.kind === "text") await prepareText(pack);
  const first = await firstRun();
  took("first run", since);
  const at = performance.timeOrigin + performance.now();
  const shown = {
    kind: spec.kind,
    spec: { side: spec.side, classes: spec.classes, tokenizer: Boolean(model.tokenizer) },
    inputs: graph.inputs,
    outputs: graph.outputs,
    first,
    spent,
    workers,
    threads: runtime.threads,
    device,
    bytes: { pack: bytes.length, graph: besides?.length ?? 0, runtime: runtimeBytes() },
    memory: { weights: held, runtime: memory() },
    at,
    summary: await summarise(pack),
  };
  postMessage({ ready: shown });
  const fetched = [[from, bytes], [beside, besides]].filter(([address]) => typeof address === "string");
  if (fetched.length) await keep(fetched).catch(() => {}); // without room it is only not kept
}

async function bytesOf(from, options = {}) {
  if (typeof from === "string") return download(from, options);
  options.started?.(from.size);
  return readFile(from);
}

/** Bytes of the runtime's files as they were sent, or as they are where the browser had them. */
function runtimeBytes() {
  return performance
    .getEntriesByType("resource")
    .filter(({ name }) => name.startsWith(new URL("../vendor/", import.meta.url).href))
    .reduce((sum, { encodedBodySize, decodedBodySize }) => sum + (encodedBodySize || decodedBodySize), 0);
}

async function prepareText(pack) {
  const { files } = model;
  model.tokenizer = await tokenizerOf(new Map([...files].filter(([name]) => TOKENIZER.includes(name))));
  model.ends = endsOf(files, pack.descriptor.architecture.config, model.tokenizer);
}

/** The first answer: to an empty image, or the token after one token. Other graphs wait for an input. */
async function firstRun() {
  const { ort, spec, session: made } = model;
  if (spec.kind === "image") {
    const found = await run(made, { [spec.input]: feedOf(ort, "float32", spec.dims, null) });
    return Array.from(found[spec.output].data);
  }
  if (spec.kind !== "text") return null;
  const options = { temperature: 0, most: 1, ends: new Set(), stopped: () => false };
  for await (const { id } of write(model, [0], options)) return [id];
  return null;
}

async function drawn({ image, number }) {
  const { ort, spec, session: made } = model;
  const began = performance.now();
  const found = await run(made, { [spec.input]: feedOf(ort, "float32", spec.dims, image) });
  postMessage({ classes: Array.from(found[spec.output].data), number, milliseconds: performance.now() - began });
}

async function written({ text, temperature, most }) {
  stopped = false;
  const { tokenizer, ends } = model;
  const ids = tokenizer ? tokenizer.encode(text).ids.map(Number) : numbersOf(text);
  if (!ids.length) ids.push(0);
  const all = [];
  let said = "";
  const turn = new MessageChannel();
  const breathe = () => new Promise((resolve) => {
    turn.port1.onmessage = resolve;
    turn.port2.postMessage(null); // lets a stop come in
  });
  for await (const { id, milliseconds } of write(model, ids, { temperature, most, ends, stopped: () => stopped })) {
    all.push(id);
    const whole = tokenizer ? tokenizer.decode(all, { skip_special_tokens: true }) : all.join(" ");
    // A character of several tokens is complete with its last one.
    if (!whole.endsWith("\ufffd")) said = whole;
    postMessage({ token: { id, text: said, milliseconds, prompt: ids.length } });
    await breathe();
  }
  turn.port1.close();
  postMessage({ written: { ids: all, stopped, memory: memory() } });
}

function numbersOf(text) {
  const ids = text.split(/[\s,]+/).filter(Boolean).map(Number);
  if (ids.every((id) => Number.isSafeInteger(id) && id >= 0)) return ids;
  const hint = "Write the numbers of tokens, such as 1 42 7, or add tokenizer.json to the pack.";
  throw new RunError("tokenizer", "tokenizer.json", "the pack holds no tokenizer, so the page cannot read text", hint);
}

async function fed(text) {
  const { ort, graph, session: made } = model;
  let parsed;
  try {
    parsed = JSON.parse(text);
  } catch (fault) {
    throw new RunError("input", "JSON", `cannot be read: ${fault.message}`);
  }
  const began = performance.now();
  const found = await run(made, feedsFrom(ort, graph.inputs, parsed));
  const outputs = Object.entries(found).map(([name, { type, dims, data }]) => ({ name, type, dims: [...dims], data }));
  postMessage({ outputs, milliseconds: performance.now() - began });
}

