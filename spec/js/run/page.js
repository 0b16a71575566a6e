/** The page: takes a pack and its graph, starts the engine, and shows what one can do with the model. */

import { onFiles } from "../page/drop.js";
import { showFault, showRefusal, showVerdict, showWork, summaryCards } from "../page/views.js";
import { queryOf, requested } from "../page/addresses.js";
import { drawing } from "./draw.js";
import { RunError, refusalOf } from "../page/errors.js";
import { measurements } from "./measured.js";
import { anyInput } from "./other.js";
import { writing } from "./write.js";

const at = (id) => document.querySelector(`#${id}`);
const [drop, input, verdict, model, measured, content] = ["drop", "file", "verdict", "model", "measured", "content"].map(at);
const STAGES = {
  download: "Downloading",
  generate: "Rebuilding and checking every weight",
  session: "Starting the model",
};
let engine = null;
let last = null;

at("unsupported").remove();
at("choose").hidden = false;
at("gpu").hidden = !navigator.gpu;

onFiles(drop, input, take);
at("address").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = queryOf(at("name").value);
  history.replaceState(null, "", query);
  fromAddress(performance.now());
});
at("webgpu").addEventListener("change", () => last && start(last.name, last.order, performance.now()));

fromAddress(0);

/** What the page's own address names; the time counts from when the page was asked for. */
function fromAddress(since) {
  try {
    const found = requested(location.search, location.href);
    if (!found) return;
    start(found.name, found, since);
  } catch (error) {
    refuse(location.search, refusalOf(error, "address"));
  }
}

/** Files that were dropped or chosen: a pack, its graph, and files for the tokenizer. A graph alone goes with the last pack. */
function take(files) {
  const packs = files.filter(({ name }) => name.endsWith(".safetensors"));
  const graphs = files.filter(({ name }) => name.endsWith(".onnx"));
  const others = files.filter((file) => !packs.includes(file) && !graphs.includes(file));
  const several = [packs, graphs].find(({ length }) => length > 1);
  if (several) return refuse(several[0].name, problem("several files of one kind", "Drop one pack and one graph."));
  const alone = !packs.length && graphs.length && last;
  if (!packs.length && !alone) {
    const what = files.length ? `${files[0].name} is not a pack` : "nothing that is a file";
    const refused = graphs.length ? problem("a graph without its pack", "Drop the pack too.") : problem(what, "A pack ends in .lotta.safetensors.");
    return refuse(files[0]?.name ?? "drop", refused);
  }
  const pack = packs[0] ?? last.order.pack;
  const named = Object.fromEntries(others.map((file) => [file.name, file]));
  history.replaceState(null, "", location.pathname);
  return start(packs[0]?.name ?? last.name, { pack, graph: graphs[0] ?? null, files: named }, performance.now());
}

const problem = (message, hint) => refusalOf(new RunError("input", "files", message, hint));

function refuse(name, refused) {
  stop();
  showRefusal(verdict, name, refused);
}

/** Stop the engine, whatever it does, and clear what it has shown. */
function stop() {
  engine?.terminate();
  engine = null;
  for (const card of [model, measured]) {
    card.hidden = true;
    card.removeAttribute("aria-busy");
    card.replaceChildren();
  }
  content.replaceChildren();
}

/** Read, check and run a pack in a new engine. `since`: when it was asked for, as performance.now() counts. */
function start(name, order, since) {
  stop();
  last = { name, order };
  drop.classList.add("small");
  document.title = `${name.split("/").at(-1)}: lottapack`;
  const { bar, say } = showWork(verdict, name, stop);
  say(STAGES.download);
  const own = new Worker(new URL("engine.js", import.meta.url), { type: "module" });
  engine = own;
  let tool = null;
  let stage = "download";
  own.onerror = (event) => failed(name, event.message ?? "the worker could not be started");
  own.onmessage = ({ data }) => {
    if (data.stage) {
      if (data.stage !== stage) say(STAGES[(stage = data.stage)]);
      if (data.progress === undefined) bar.removeAttribute("value");
      else bar.value = data.progress;
    } else if (data.ready) {
      tool = show(own, name, data.ready, data.ready.at - performance.timeOrigin - since);
    } else if (data.refused && data.during === "open") refuse(name, data.refused);
    else if (data.refused) tool.refused(data.refused);
    else if (data.crashed) failed(name, data.crashed);
    else tool.told(data);
  };
  const device = at("webgpu").checked ? "webgpu" : "wasm";
  const cores = Math.min(navigator.hardwareConcurrency || 1, 16);
  own.postMessage({ open: { ...order, device, cores, isolated: globalThis.crossOriginIsolated === true } });
}

const TOOLS = { image: drawing, text: writing, other: anyInput };

function show(own, name, ready, milliseconds) {
  showVerdict(verdict, "good", "Verified and running", `${name}: every hash and every rebuilt weight is as recorded.`);
  const tool = TOOLS[ready.kind](model, ready, (order) => own.postMessage(order));
  model.hidden = false;
  measured.hidden = false;
  measured.dataset.spent = JSON.stringify({ ...ready.spent, "first answer": milliseconds });
  measured.replaceChildren(...measurements(ready, milliseconds));
  content.replaceChildren(...summaryCards(ready.summary));
  remember();
  return tool;
}

/** Keep the page's own files for a visit without a network; done after the first answer, which they would delay. */
function remember() {
  if (!navigator.serviceWorker) return;
  navigator.serviceWorker.register(new URL("../sw.js", import.meta.url), { type: "module" }).catch(() => {}); // without it, the page needs its server
}

function failed(name, message) {
  stop();
  showFault(verdict, name, message);
}
