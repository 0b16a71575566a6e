/** The page: takes a file, passes it to a worker and shows the worker's results. */

import { requested } from "./addresses.js";
import { element } from "./dom.js";
import { refusalOf } from "./errors.js";
import { showRefusal, showResult, showVerdict, summaryCards } from "./views.js";

const drop = document.querySelector("#drop");
const input = document.querySelector("#file");
const verdict = document.querySelector("#verdict");
const content = document.querySelector("#content");
const REBUILDING = "Rebuilding every weight";
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
  const { files } = event.dataTransfer;
  if (files.length === 1) look(files[0]);
  else refuse(`${files.length} files`, problem(files.length ? `${files.length} files were dropped` : "nothing that is a file was dropped"));
});

/** What the page's own address names. */
try {
  const found = requested(location.search, location.href);
  if (found) look({ name: decodeURI(new URL(found.pack).pathname), address: found.pack });
} catch (error) {
  refuse(location.search, refusalOf(error, "address"));
}

function problem(message) {
  const problems = [{ kind: "input", where: "files", message }];
  return { section: "input", problems, count: 1, hint: "Drop one pack at a time: a file that ends in .lotta.safetensors." };
}

function refuse(name, refused) {
  worker?.terminate();
  content.replaceChildren();
  showRefusal(verdict, name, refused);
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
  const bar = element("progress", "", { max: 1, value: 0, "aria-label": "rebuilding" });
  const cancel = element("button", "quiet", { type: "button" }, "Cancel");
  cancel.addEventListener("click", () => {
    worker.terminate();
    showVerdict(verdict, "part", "Cancelled", `${name} was not checked to the end.`);
    input.focus();
  });
  showVerdict(verdict, "busy", order.address ? "Downloading" : REBUILDING, name, bar, cancel);
  let declared = "";
  worker.onmessage = ({ data }) => {
    if (data.progress !== undefined) bar.value = data.progress;
    else if (data.downloaded) showVerdict(verdict, "busy", REBUILDING, name, bar, cancel);
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
