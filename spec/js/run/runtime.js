/** ONNX Runtime for the web, as `make web` has put it into ../vendor. */

import { separate } from "../graph.js";
import { RunError, isMemory } from "../page/errors.js";
import { fuse } from "./fuse.js";

const MISSING = "In a checkout: make web. In an installed wheel: take one that was built after it.";
const memories = [];

{
  // The runtime does not tell how much memory it takes; WebAssembly's own object does.
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory {
    constructor(size) {
      super(size);
      memories.push(this);
    }
  };
}

/** Bytes of the runtime's memory. */
export const memory = () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);

/** The smallest graph: out = in. Making a session of it starts the runtime while the weights are still being made. */
const NOTHING = Uint8Array.from([
  8, 8, 58, 55, 10, 16, 10, 1, 105, 18, 1, 111, 34, 8, 73, 100, 101, 110, 116, 105, 116, 121, 18, 1, 103, 90,
  15, 10, 1, 105, 18, 10, 10, 8, 8, 1, 18, 4, 10, 2, 8, 1, 98, 15, 10, 1, 111, 18, 10, 10, 8, 8, 1, 18, 4, 10,
  2, 8, 1, 66, 4, 10, 0, 16, 13,
]);

/** Start the runtime. `device`: wasm or webgpu; `threads`: a number. Returns `{ort, device, threads}`. */
export async function start(device, threads) {
  const module = device === "webgpu" ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs";
  let ort;
  try {
    ort = await import(`../vendor/${module}`);
  } catch (fault) {
    throw new RunError("runtime", `vendor/${module}`, `this copy of the page came without its runtime (${fault.message})`, MISSING);
  }
  ort.env.wasm.wasmPaths = new URL("../vendor/", import.meta.url).href;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "fatal"; // the page shows errors itself
  try {
    await ort.InferenceSession.create(NOTHING, { executionProviders: [device] });
  } catch (fault) {
    if (isMemory(fault)) throw fault;
    throw new RunError("runtime", `vendor/${module}`, `the runtime does not start: ${String(fault?.message ?? fault).slice(0, 500)}`, MISSING);
  }
  return { ort, device, threads };
}

/**
 * A session over weights. `bytes`: the graph's, which are changed; `graph`: from readGraph(); `weights`: by name.
 *
 * Where fuse.js has something to do, the runtime's own optimizer would only take time and a second copy of weights.
 */
export async function session({ ort, device }, bytes, graph, weights) {
  const externalData = [...separate(bytes, graph)].map(([name, path]) => ({ path, data: weights.get(name) }));
  const fused = device === "wasm" ? fuse(bytes, graph) : bytes;
  const graphOptimizationLevel = fused === bytes ? "all" : "disabled";
  try {
    return await ort.InferenceSession.create(fused, { externalData, executionProviders: [device], graphOptimizationLevel, logSeverityLevel: 4 });
  } catch (fault) {
    if (isMemory(fault)) throw fault;
    throw refusedBy(fault, "ONNX Runtime refuses the graph");
  }
}

/** Run a session; a refusal by the runtime is a RunError. */
export async function run(opened, feeds) {
  try {
    return await opened.run(feeds, { logSeverityLevel: 4 }); // the page shows errors itself
  } catch (fault) {
    if (isMemory(fault)) throw fault;
    throw refusedBy(fault, "ONNX Runtime cannot run the model on this input");
  }
}

function refusedBy(fault, what) {
  const [line] = String(fault?.message ?? fault).trim().split("\n");
  return new RunError("runtime", "model.onnx", `${what}: ${line.slice(0, 500)}`, "Write the graph again, or run it with lottapack.onnx.session.");
}
