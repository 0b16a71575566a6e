/** The card with what running cost: time, bytes over the line, memory. */

import { element, number, size } from "../page/dom.js";
import { sizePicture } from "../page/pictures.js";

const STAGES = {
  download: "download",
  checks: "header, files and graph",
  weights: "weights",
  runtime: "runtime, meanwhile",
  session: "session",
  "first run": "first run",
};

const time = (milliseconds) => (milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${Number((milliseconds / 1000).toPrecision(3))} s`);

/** The children of the card. `milliseconds`: from asking for the page, or from the drop, to the first answer. */
export function measurements({ spent, bytes, memory, workers, threads, device, summary: { full, numel } }, milliseconds) {
  const list = element("dl", "facts");
  const fact = (name, value, small) => {
    const said = element("dd", "", {}, value, element("small", "", {}, small));
    list.append(element("div", "", {}, element("dt", "", {}, name), said));
  };
  const stages = Object.entries(STAGES).filter(([stage]) => spent[stage] !== undefined);
  fact("First answer after", time(milliseconds), stages.map(([stage, label]) => `${label} ${time(spent[stage])}`).join(", "));
  const line = bytes.pack + bytes.graph + bytes.runtime;
  const parts = [["pack", bytes.pack], ["graph", bytes.graph], ["runtime", bytes.runtime]].filter(([, count]) => count);
  fact("Bytes over the line", size(line), parts.map(([label, count]) => `${label} ${size(count)}`).join(", "));
  fact("Memory", size(memory.weights + memory.runtime), `weights ${size(memory.weights)}, runtime with its copy ${size(memory.runtime)}`);
  const made = `${number(numel)} weights by ${workers} ${workers > 1 ? "workers" : "worker"}`;
  const how = device === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} ${threads > 1 ? "threads" : "thread"}`;
  fact("Runs on", how, made);
  const children = [element("h2", "", {}, "Measured"), list];
  children.push(sizePicture(bytes.pack + bytes.graph, { "16 bits": full["16 bits"] }));
  if (!globalThis.crossOriginIsolated) {
    const message = "One thread: the browser gives this page no shared memory, since its server does not send the headers for it. After a reload, the page adds them itself.";
    children.push(element("p", "soft", {}, message));
  }
  return children;
}
