/** A square to draw a digit in, and a bar for each class. */

import { element } from "../page/dom.js";
import { preprocess, softmax } from "./images.js";
import { showProblem } from "./problem.js";

const SIZE = 280;
const [THIN, THICK] = [26, 40]; // of the pen: MNIST's strokes, and those of images of few pixels

const percent = (share) => (share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`);

/** Fill the card; returns what takes the engine's answers. */
export function drawing(card, { spec: { side, classes }, first }, send) {
  const canvas = element("canvas", "pad", { width: SIZE, height: SIZE, tabindex: 0, role: "img" });
  const small = element("canvas", "seen", { width: side, height: side, role: "img" });
  small.setAttribute("aria-label", `the image of ${side} by ${side} that the model sees`);
  const clear = element("button", "", { type: "button" }, "Clear");
  const answer = element("p", "answer", { "aria-live": "polite" }, "Draw a digit.");
  const bars = element("div", "classes");
  const rows = Array.from({ length: classes }, (_, index) => classRow(bars, index));
  const problem = element("p", "problems", { role: "alert" });
  const hint = element("p", "soft", {}, "With the mouse, a finger or a pen. Keyboard: arrows move the pen, space lowers it, Delete clears.");
  const pads = element("div", "pads", {}, canvas, element("div", "side", {}, small, clear));
  card.replaceChildren(element("h2", "", {}, "Draw"), element("div", "draw", {}, pads, element("div", "", {}, answer, bars)), hint, problem);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let waiting = false;
  let again = false;
  let empty = true;

  const waits = (whether) => {
    waiting = whether;
    card.setAttribute("aria-busy", String(waiting));
  };
  const reset = () => {
    pen.clearRect(0, 0, SIZE, SIZE);
    empty = true;
    answer.textContent = "Draw a digit.";
    canvas.setAttribute("aria-label", "an empty square to draw in");
    ask();
  };
  const ask = () => {
    again = waiting;
    if (waiting) return;
    waits(true);
    const { data } = pen.getImageData(0, 0, SIZE, SIZE);
    const ink = Float32Array.from({ length: SIZE * SIZE }, (_, index) => data[4 * index + 3] / 255);
    const image = preprocess(ink, SIZE, side);
    paint(small, image, side);
    send({ draw: { image } });
  };
  strokes(canvas, pen, side > 16 ? THIN : THICK, () => {
    empty = false;
    ask();
  });
  clear.addEventListener("click", reset);
  canvas.addEventListener("keydown", (event) => event.key === "Delete" && reset());
  const show = (logits) => {
    const shares = softmax(logits);
    const best = shares.indexOf(Math.max(...shares));
    rows.forEach(({ bar, value, row }, index) => {
      bar.style.width = empty ? "0" : `${100 * shares[index]}%`;
      value.textContent = empty ? "" : percent(shares[index]);
      row.classList.toggle("best", !empty && index === best);
    });
    card.dataset.logits = JSON.stringify(logits);
    if (empty) return;
    answer.textContent = `This is a ${best} (${percent(shares[best])}).`;
    canvas.setAttribute("aria-label", `your drawing, read as ${best}`);
  };
  paint(small, new Float32Array(side * side), side);
  canvas.setAttribute("aria-label", "an empty square to draw in");
  show(first);
  return {
    told: ({ classes: logits }) => {
      waits(false);
      problem.replaceChildren();
      show(logits);
      if (again) ask();
    },
    refused: (refused) => {
      waits(false);
      showProblem(problem, refused);
    },
  };
}

function classRow(bars, index) {
  const bar = element("span", "level");
  const value = element("span", "number");
  const row = element("div", "class", {}, element("span", "label", {}, String(index)), element("span", "track", {}, bar), value);
  bars.append(row);
  return { row, bar, value };
}

/** Draw by pointer, or by keys: arrows move the pen, space lowers and lifts it. */
function strokes(canvas, pen, lineWidth, changed) {
  Object.assign(pen, { lineWidth, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
  let from = null;
  const line = (to) => {
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y + 0.01); // so that a point is a dot
    pen.stroke();
    from = to;
    changed();
  };
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    return { x: ((clientX - left) * SIZE) / width, y: ((clientY - top) * SIZE) / height };
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    from = place(event);
    line(from);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from || !canvas.hasPointerCapture(event.pointerId)) return;
    for (const one of event.getCoalescedEvents?.() ?? []) line(place(one));
    line(place(event));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (from = null));
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  let [key, down] = [{ x: SIZE / 2, y: SIZE / 4 }, false];
  canvas.addEventListener("keydown", (event) => {
    if (event.key === " ") down = !down;
    else if (STEPS[event.key]) {
      const [x, y] = STEPS[event.key];
      const inside = (value) => Math.max(lineWidth / 2, Math.min(SIZE - lineWidth / 2, value));
      from = key;
      key = { x: inside(key.x + 14 * x), y: inside(key.y + 14 * y) };
    } else return;
    event.preventDefault();
    from ??= key;
    if (down) line(key);
    from = null;
  });
}

function paint(canvas, image, side) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  image.forEach((level, index) => (pixels.data[4 * index + 3] = Math.round(255 * level)));
  context.putImageData(pixels, 0, 0);
}
