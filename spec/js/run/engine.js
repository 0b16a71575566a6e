/**
 * The worker behind the page: it downloads and starts the runtime at once, and loads what reads, makes and runs models meanwhile.
 */

import { download, keep, readFile } from "../page/download.js";
import { RunError, refusalOf } from "../page/errors.js";
import { seldom } from "../page/progress.js";
import { start } from "./runtime.js";

const SMALL = 4e6; // bytes of a pack from which threads are worth their start

const loading = import("./model.js").catch((fault) => {
  throw new RunError("address", "run/model.js", `a part of the page cannot be loaded (${fault.message})`, "Go online, and load the page again.");
});
loading.catch(() => {}); // it is awaited later, or a download fails first
let model = null;

onmessage = async ({ data }) => {
  try {
    if (data.open) await opened(data.open);
    else if (data.stop) model.stop();
    else if (data.draw) await model.draw(data.draw);
    else if (data.write) await model.write(data.write);
    else if (data.feed) await model.feed(data.feed);
  } catch (error) {
    const refused = refusalOf(error, "model");
    if (refused) postMessage({ refused, during: data.open ? "open" : "run" });
    else postMessage({ crashed: String(error?.stack ?? error) });
  }
};

/** `pack`, `graph`: a File or an address, or null; `files`: File by name; `device`, `cores`, `isolated`. */
async function opened({ pack, graph, files, device, cores, isolated }) {
  const began = performance.now();
  const tell = (stage) => seldom((share) => postMessage({ stage, progress: share }));
  let starting = null;
  const begin = (size) => {
    starting ??= timed(start(device, isolated && size > SMALL ? Math.min(cores, 8) : 1));
    starting.catch(() => {}); // it is awaited later, or something else fails first
  };
  const [bytes, beside] = await Promise.all([
    bytesOf(pack, { started: begin, progress: tell("download") }),
    graph ? bytesOf(graph) : null,
  ]);
  begin(bytes.length);
  const spent = { download: performance.now() - began };
  const { openModel } = await loading;
  const opened = await openModel({ bytes, beside, files, starting, cores, spent, tell });
  ({ model } = opened);
  postMessage({ ready: opened.shown });
  const fetched = [[pack, bytes], [graph, beside]].filter(([address]) => typeof address === "string");
  if (fetched.length) await keep(fetched).catch(() => {}); // without room it is only not kept
}

async function timed(promise) {
  const since = performance.now();
  const runtime = await promise;
  return { ...runtime, milliseconds: performance.now() - since };
}

async function bytesOf(from, options = {}) {
  if (typeof from === "string") return download(from, options);
  options.started?.(from.size);
  return readFile(from);
}
