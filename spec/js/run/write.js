/** A prompt, and the text that the model writes after it. */

import { element, number } from "../page/dom.js";
import { showProblem } from "./problem.js";

const PROMPT = "The weights of a network";

/** Fill the card; returns what takes the engine's answers. */
export function writing(card, { spec: { tokenizer } }, send) {
  const prompt = element("textarea", "", { id: "prompt", rows: 3, spellcheck: "false" });
  prompt.value = tokenizer ? PROMPT : "0";
  const temperature = element("input", "", { id: "temperature", type: "number", min: 0, max: 2, step: 0.1, value: 0, required: "" });
  const most = element("input", "", { id: "most", type: "number", min: 1, max: 2000, step: 1, value: 60, required: "" });
  const go = element("button", "", { type: "submit" }, "Write");
  const halt = element("button", "quiet", { type: "button", disabled: "" }, "Stop");
  const controls = element("div", "controls", {}, field("Temperature", temperature), field("Tokens, at most", most), go, halt);
  const asked = element("label", "", { for: "prompt" }, tokenizer ? "Prompt" : "Tokens to begin with, as numbers");
  const form = element("form", "write", {}, asked, prompt, controls);
  const text = element("output", "text", { for: "prompt", "aria-live": "off" });
  const rate = element("p", "soft");
  const said = element("p", "unseen", { role: "status" }); // once, and not at each token
  const problem = element("p", "problems", { role: "alert" });
  card.replaceChildren(element("h2", "", {}, "Write"), form, text, rate, said, problem);
  let count = 0;
  let spent = 0;
  const busy = (on) => {
    go.disabled = on;
    halt.disabled = !on;
  };
  const show = (added) => {
    text.querySelector(".added").textContent = tokenizer ? added : ` ${added}`;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problem.replaceChildren();
    text.replaceChildren(element("span", "asked", {}, prompt.value));
    text.append(element("span", "added"));
    [count, spent] = [0, 0];
    busy(true);
    send({ write: { text: prompt.value, temperature: Number(temperature.value), most: Number(most.value) } });
  });
  halt.addEventListener("click", () => send({ stop: true }));
  return {
    told: ({ token, written }) => {
      if (token) {
        show(token.text);
        if (count) spent += token.milliseconds;
        count += 1;
        const speed = count > 1 ? `, ${number((1000 * (count - 1)) / spent)} tokens a second` : "";
        rate.textContent = `${number(count)} tokens${speed}`;
      }
      if (!written) return;
      show(written.text); // with a last character that is not complete
      card.dataset.ids = JSON.stringify(written.ids);
      busy(false);
      said.textContent = `${written.stopped ? "Stopped" : "Finished"}: ${text.textContent}`;
      if (written.stopped) rate.textContent += ", stopped";
    },
    refused: (refused) => {
      busy(false);
      showProblem(problem, refused);
    },
  };
}

function field(label, input) {
  return element("span", "field", {}, element("label", "", { for: input.id }, label), input);
}
