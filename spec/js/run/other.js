/** Any other graph: its inputs and outputs, and a run on zeros or on numbers that one writes. */

import { element, number } from "../page/dom.js";
import { showProblem } from "./problem.js";

const SHOWN = 100;
const FREE = 1; // of a size that the graph leaves free

/** Fill the card; returns what takes the engine's answers. */
export function anyInput(card, { inputs, outputs }, send) {
  const written = element("textarea", "mono", { id: "json", rows: Math.min(12, 2 + inputs.length), spellcheck: "false" });
  const zeros = inputs.map(({ name, dims }) => `  ${JSON.stringify(name)}: {"dims": [${dims.map((size) => Number(size) || FREE).join(", ")}], "data": 0}`);
  written.value = `{\n${zeros.join(",\n")}\n}`;
  const go = element("button", "", { type: "submit" }, "Run");
  const label = element("label", "", { for: "json" }, "Input, as JSON: for each input a nested list, or its dims and data (a list, or one number for all)");
  const form = element("form", "write", {}, label, written, element("div", "controls", {}, go));
  const results = element("div", "results", { "aria-live": "polite" });
  const problem = element("p", "problems", { role: "alert" });
  const tables = element("div", "scroll", {}, ports("input", inputs), ports("output", outputs));
  card.replaceChildren(element("h2", "", {}, "Run"), tables, form, results, problem);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem.replaceChildren();
    go.disabled = true;
    send({ feed: written.value });
  });
  return {
    told: ({ outputs: found, milliseconds }) => {
      go.disabled = false;
      results.replaceChildren(...found.map(result), element("p", "soft", {}, `${number(Math.round(milliseconds))} ms`));
    },
    refused: (refused) => {
      go.disabled = false;
      showProblem(problem, refused);
    },
  };
}

function ports(what, list) {
  const row = (...cells) => element("tr", "", {}, ...cells.map((text) => element("td", "mono", {}, text)));
  const head = element("tr", "", {}, ...[what, "type", "shape"].map((text) => element("th", "", { scope: "col" }, text)));
  return element("table", "", {}, head, ...list.map(({ name, dtype, dims }) => row(name, dtype || "other", dims.map((size) => size || "?").join(" × "))));
}

function result({ name, type, dims, data }) {
  const some = Array.from(data.slice(0, SHOWN), (value) => (typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value));
  const rest = data.length > SHOWN ? ` ... and ${number(data.length - SHOWN)} more` : "";
  const text = `${some.join(", ")}${rest}`;
  const title = element("h3", "role", {}, `${name} `, element("span", "", {}, `${type} [${dims.join(", ")}]`));
  return element("div", "", {}, title, element("p", "mono", {}, text));
}
