/** The page: takes a file, passes it to a worker and shows the worker's results. */

import { requested } from "./addresses.js";
import { element } from "./dom.js";
import { onFiles } from "./drop.js";
import { RunError, refusalOf } from "./errors.js";
import { showFault, showRefusal, showResult, showWork, summaryCards } from "./views.js";

const drop = document.querySelector("#drop");
const input = document.querySelector("#file");
const verdict = document.querySelector("#verdict");
const content = document.querySelector("#content");
const REBUILDING = "Rebuilding every weight";
let worker;

document.querySelector("#unsupported").remove();
drop.hidden = false;

onFiles(drop, input, (files) => {
  if (files.length === 1) look(files[0]);
  else refuse(`${files.length} files`, oneFile(files.length ? `${files.length} files were dropped` : "nothing that is a file was dropped"));
});

/** What the page's own address names. */
try {
  const found = requested(location.search, location.href);
  if (found) look({ name: found.name, address: found.pack });
} catch (error) {
  refuse(location.search, error);
}

function oneFile(message) {
  return new RunError("input", "files", message, "Drop one pack at a time: a file that ends in .lotta.safetensors.");
}

function refuse(name, error) {
  worker?.terminate();
  content.replaceChildren();
  showRefusal(verdict, name, refusalOf(error, "address"));
}

/** Read and check a file in a new worker; one that still works on another file is stopped. */
function look(file) {
  worker?.terminate();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  content.replaceChildren();
  drop.classList.add("small");
  document.title = `${file.name.split("/").at(-1)}: lottapack`;
  check(file.name, file.address ? { address: file.address } : { file });
}

function check(name, order) {
  const { bar, say } = showWork(verdict, name, () => worker.terminate());
  say(order.address ? "Downloading" : REBUILDING);
  let needed = "";
  worker.onmessage = ({ data }) => {
    if (data.progress !== undefined) bar.value = data.progress;
    else if (data.downloaded) say(REBUILDING);
    else if (data.summary) {
      needed = data.summary.needed;
      content.replaceChildren(...summaryCards(data.summary));
    } else if (data.result) showResult(verdict, name, data.result);
    else if (data.refused) {
      showRefusal(verdict, name, data.refused);
      if (data.refused.section === "limit") offer(name, needed);
    } else showFault(verdict, name, data.crashed);
  };
  worker.onerror = (event) => showFault(verdict, name, event.message ?? "the worker could not be started");
  worker.postMessage(order);
}

/** A button for a model over the limit, since checking it takes time, but memory only for factors from the seed. */
function offer(name, needed) {
  const button = element("button", "", { type: "button" }, "Check it anyway");
  button.addEventListener("click", () => check(name, { maxBytes: BigInt(needed) }));
  verdict.append(button);
}
