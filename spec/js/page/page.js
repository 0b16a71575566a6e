/** The page: takes a file, passes it to a worker and shows the worker's results. */

import { element } from "./dom.js";
import { showRefusal, showResult, showVerdict, summaryCards } from "./views.js";

const drop = document.querySelector("#drop");
const input = document.querySelector("#file");
const verdict = document.querySelector("#verdict");
const content = document.querySelector("#content");
let worker;

document.querySelector("#unsupported").remove();
drop.hidden = false;

input.addEventListener("change", () => {
  if (input.files.length) look(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
});
for (const name of ["dragenter", "dragover"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) look(file);
});

/** Read and check a file in a new worker; one that still works on another file is stopped. */
function look(file) {
  worker?.terminate();
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  content.replaceChildren();
  drop.classList.add("small");
  document.title = `${file.name}: lottapack`;
  check(file.name, { file });
}

function check(name, order) {
  const bar = element("progress", "", { max: 1, value: 0, "aria-label": "rebuilding" });
  showVerdict(verdict, "busy", "Rebuilding every weight", name, bar);
  let declared = "";
  worker.onmessage = ({ data }) => {
    if (data.progress !== undefined) bar.value = data.progress;
    else if (data.summary) {
      declared = data.summary.declared;
      content.replaceChildren(...summaryCards(data.summary));
    } else if (data.result) showResult(verdict, name, data.result);
    else if (data.refused) {
      showRefusal(verdict, name, data.refused);
      if (data.refused.section === "limit") offer(name, declared);
    } else failed(name, data.crashed);
  };
  worker.onerror = (event) => failed(name, event.message ?? "the worker could not be started");
  worker.postMessage(order);
}

/** A button for a model over the limit, since checking it takes time, but not memory. */
function offer(name, declared) {
  const button = element("button", "", { type: "button" }, "Check it anyway");
  button.addEventListener("click", () => check(name, { maxBytes: BigInt(declared) }));
  verdict.append(button);
}

function failed(name, message) {
  const note = element("p", "hint", {}, "This is a fault of the page, not of the pack. Please report it with this text.");
  showVerdict(verdict, "bad", "The page failed", name, element("p", "problems mono", {}, message), note);
}
