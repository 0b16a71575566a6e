/** A model in the engine: its pack and graph are checked, its weights made, and its session asked. */

import { checkGraph, fromBytes, open, readGraph } from "../lottapack.js";
import { RunError } from "../page/errors.js";
import { summarise } from "../page/summary.js";
import { kindOf } from "./kind.js";
import { memory, run, session } from "./runtime.js";
import { feedOf, feedsFrom, numbersOf } from "./tensors.js";
import { generate } from "./weights.js";
import { endsOf, greatest, positionsOf, tokenizerOf, write } from "./writer.js";

const MOST_BYTES = 2n ** 31n; // of weights: WebAssembly has 4 GiB, and the runtime copies some
const GRAPH = "model.onnx";
const TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];

/**
 * Read and check a pack and its graph, and make a session. `bytes`, `beside`: of the pack, and of a graph beside it or null;
 * `files`: File by name; `starting`: the runtime, awaited last; `spent`: milliseconds by stage, added to; `tell(stage)`: takes
 * the stage's progress. Returns `{model, shown}`: the model, and what the page shows of it.
 */
export async function openModel({ bytes, beside, files: dropped, starting, cores, spent, tell }) {
  let since = performance.now();
  const took = (stage) => {
    spent[stage] = performance.now() - since;
    since = performance.now();
  };
  const pack = await open(fromBytes(bytes));
  checkSize(pack);
  const files = new Map();
  for (const name of pack.descriptor.files.keys()) files.set(name, await pack.file(name)); // checked, used or not
  for (const [name, file] of Object.entries(dropped ?? {})) files.set(name, new Uint8Array(await file.arrayBuffer()));
  const text = beside?.slice() ?? files.get(GRAPH);
  if (!text) {
    const hint = "Where torch is: lottapack export PACK -o FOLDER --format onnx --weights none. Drop the pack or the graph of that folder.";
    throw new RunError("graph", "files", "the pack holds no graph (model.onnx), which says what the model computes", hint);
  }
  const graph = readGraph(text);
  checkGraph(graph, pack);
  took("checks");
  const { weights, workers } = await generate(pack, bytes, graph.weights, { cores, progress: tell("generate") });
  const held = [...weights.values()].reduce((sum, { length }) => sum + length, 0);
  took("weights");
  tell("session")();
  const runtime = await starting;
  spent.runtime = runtime.milliseconds;
  since = performance.now();
  const made = await session(runtime, text, graph, weights);
  took("session");
  const model = new Model(runtime.ort, made, graph, kindOf(graph));
  if (model.spec.kind === "text") await model.prepare(files, pack.descriptor.architecture.config);
  const first = await model.first();
  took("first run");
  const at = performance.timeOrigin + performance.now();
  const { kind, side, classes } = model.spec;
  const shown = {
    kind,
    spec: { side, classes, tokenizer: Boolean(model.tokenizer) },
    inputs: graph.inputs,
    outputs: graph.outputs,
    first,
    spent,
    workers,
    threads: runtime.threads,
    device: runtime.device,
    bytes: { pack: bytes.length, graph: beside?.length ?? 0, runtime: runtimeBytes() },
    memory: { weights: held, runtime: memory() },
    at,
    summary: await summarise(pack),
  };
  return { model, shown };
}

function checkSize(pack) {
  const needed = pack.neededBytes();
  if (needed <= MOST_BYTES) return;
  const message = `the weights take ${needed.toLocaleString("en")} bytes, and a browser runs at most ${MOST_BYTES.toLocaleString("en")}`;
  throw new RunError("memory", "parameters", message, "Run it with the library: lottapack run PACK");
}

/** Bytes of the runtime's files as they were sent, or as they are where the browser had them. */
function runtimeBytes() {
  return performance
    .getEntriesByType("resource")
    .filter(({ name }) => name.startsWith(new URL("../vendor/", import.meta.url).href))
    .reduce((sum, { encodedBodySize, decodedBodySize }) => sum + (encodedBodySize || decodedBodySize), 0);
}

class Model {
  constructor(ort, made, graph, spec) {
    Object.assign(this, { ort, session: made, graph, spec, tokenizer: null, ends: new Set(), positions: Infinity, stopped: false });
  }

  /** Read the tokenizer and the tokens that end a text. */
  async prepare(files, config) {
    const own = new Map([...files].filter(([name]) => TOKENIZER.includes(name)));
    this.tokenizer = await tokenizerOf(own);
    this.ends = endsOf(own, config, this.tokenizer);
    this.positions = positionsOf(config);
  }

  /** The first answer: to an empty image, or the token after one token. Other graphs wait for an input. */
  async first() {
    const { spec } = this;
    if (spec.kind === "image") return this.classes(null);
    if (spec.kind !== "text") return null;
    const options = { temperature: 0, most: 1, ends: new Set(), stopped: () => false };
    for await (const { id } of write(this, [0], options)) return [id];
    return null;
  }

  /** The logits of an image; null is an empty one. */
  async classes(image) {
    const { ort, spec } = this;
    const found = await run(this.session, { [spec.input]: feedOf(ort, "float32", spec.dims, image) });
    const logits = Array.from(numbersOf(found[spec.output]));
    greatest(logits);
    return logits;
  }

  async draw({ image }) {
    postMessage({ classes: await this.classes(image) });
  }

  stop() {
    this.stopped = true;
  }

  async write({ text, temperature, most }) {
    this.stopped = false;
    const { tokenizer, ends } = this;
    const ids = tokenizer ? tokenizer.encode(text).ids.map(Number) : idsOf(text);
    if (!ids.length) throw new RunError("input", "prompt", "it holds no token to begin with", "Write some text.");
    this.checkRoom(ids.length + most);
    const all = [];
    let [whole, said] = ["", ""];
    const turn = new MessageChannel();
    const breathe = () => new Promise((resolve) => {
      turn.port1.onmessage = resolve;
      turn.port2.postMessage(null); // lets a stop come in
    });
    for await (const { id, milliseconds } of write(this, ids, { temperature, most, ends, stopped: () => this.stopped })) {
      all.push(id);
      whole = tokenizer ? tokenizer.decode(all, { skip_special_tokens: true }) : all.join(" ");
      // A character of several tokens is complete with its last one.
      if (!whole.endsWith("\ufffd")) said = whole;
      postMessage({ token: { id, text: said, milliseconds } });
      await breathe();
    }
    turn.port1.close();
    postMessage({ written: { ids: all, text: whole, stopped: this.stopped } });
  }

  /** Refuse more tokens than the model has positions for. */
  checkRoom(count) {
    if (!(count > this.positions)) return;
    const message = `the prompt and the tokens asked for are ${count}, and the model has ${this.positions} positions`;
    throw new RunError("input", "prompt", message, "Shorten the prompt, or ask for fewer tokens.");
  }

  /** Run on what a person wrote as JSON. */
  async feed(text) {
    let parsed;
    try {
      parsed = JSON.parse(text);
    } catch (fault) {
      throw new RunError("input", "JSON", `cannot be read: ${fault.message}`);
    }
    const began = performance.now();
    const found = await run(this.session, feedsFrom(this.ort, this.graph.inputs, parsed));
    const outputs = Object.entries(found).map(([name, tensor]) => ({ name, type: tensor.type, dims: [...tensor.dims], data: numbersOf(tensor) }));
    postMessage({ outputs, milliseconds: performance.now() - began });
  }
}

function idsOf(text) {
  const ids = text.split(/[\s,]+/).filter(Boolean).map(Number);
  if (ids.every((id) => Number.isSafeInteger(id) && id >= 0)) return ids;
  const hint = "Write the numbers of tokens, such as 1 42 7, or add tokenizer.json to the pack.";
  throw new RunError("tokenizer", "tokenizer.json", "the pack holds no tokenizer, so the page cannot read text", hint);
}
