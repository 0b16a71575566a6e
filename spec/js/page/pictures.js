/** The pictures: the parts of a pack's bytes, its size next to full checkpoints, and its betas. */

import { element, number, percent, size, svg } from "./dom.js";

const COLOURS = 8;

/** The bytes of the pack by group, as one bar with a legend. `groups`: pairs of a label and bytes. */
export function bytesPicture(groups, total) {
  const bar = element("div", "stack", { role: "img", "aria-label": "bytes by group" });
  const legend = element("ul", "legend");
  [...groups]
    .sort(([, a], [, b]) => b - a)
    .forEach(([label, bytes], index) => {
      const colour = `var(--c${Math.min(index, COLOURS - 1)})`;
      const part = element("span", "", { title: `${label}: ${number(bytes)} bytes` });
      part.style.flexGrow = bytes;
      part.style.background = colour;
      bar.append(part);
      const item = element("li", "", {}, `${label} `, element("span", "", {}, `${size(bytes)}, ${percent(bytes, total)}`));
      item.style.setProperty("--colour", colour);
      legend.append(item);
    });
  return [bar, legend];
}

/** This pack next to the checkpoint that it replaces. `full`: bytes by form. */
export function sizePicture(fileSize, full) {
  const rows = [["this pack", fileSize], ...Object.entries(full).map(([form, bytes]) => [`full, ${form}`, bytes])];
  const most = Math.max(...rows.map(([, bytes]) => bytes));
  const picture = element("div", "bars");
  for (const [label, bytes] of rows) {
    const bar = element("div", label === "this pack" ? "bar this" : "bar");
    bar.style.width = percent(bytes, most);
    const times = label === "this pack" ? "" : `, ${number(Number((bytes / fileSize).toPrecision(3)))} times`;
    picture.append(element("span", "", {}, label), bar, element("span", "number", {}, `${size(bytes)}${times}`));
  }
  return picture;
}

const [WIDTH, HEIGHT, LEFT, EDGE] = [900, 190, 56, 14];

/** The learned betas in the order of the model, each a dot over its line from 1. */
export function betasPicture(betas) {
  const values = betas.map(({ value }) => value).filter(Number.isFinite);
  const [least, most] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  const [low, high] = [Math.min(1, least), Math.max(1, most)];
  const span = high - low || 1;
  const y = (value) => EDGE + ((high - value) / span) * (HEIGHT - 2 * EDGE);
  const step = (WIDTH - LEFT - EDGE) / betas.length;
  const label = `${betas.length} learned betas from ${number(least)} to ${number(most)}`;
  const picture = svg("svg", "betas", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  picture.append(svg("line", "axis", { x1: LEFT, x2: LEFT, y1: EDGE, y2: HEIGHT - EDGE }));
  picture.append(svg("line", "one", { x1: LEFT, x2: WIDTH - EDGE, y1: y(1), y2: y(1) }));
  for (const value of new Set([low, 1, high])) {
    const near = value !== 1 && Math.abs(y(value) - y(1)) < 14;
    if (!near) picture.append(svg("text", "", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  betas.forEach(({ name, value }, index) => {
    if (!Number.isFinite(value)) return;
    const x = LEFT + (index + 0.5) * step;
    const radius = Math.max(1.2, Math.min(4.5, step / 2.5));
    picture.append(svg("line", "stem", { x1: x, x2: x, y1: y(1), y2: y(value) }));
    const title = svg("title", "", {}, `${name}: ${value}`);
    picture.append(svg("circle", "", { cx: x, cy: y(value), r: radius }, title));
  });
  return picture;
}
