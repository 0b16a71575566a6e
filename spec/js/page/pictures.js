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

const [WIDE, NARROW, HEIGHT, LEFT, EDGE] = [900, 380, 190, 56, 14];

/** The learned betas in the order of the model, each a dot over its line from 1; what is not finite is only counted. */
export function betasPicture(betas, width = innerWidth < 600 ? NARROW : WIDE) {
  const values = betas.map(({ value }) => value).filter(Number.isFinite);
  const [low, high] = rangeOf(values);
  const y = (value) => EDGE + ((high - value) / (high - low)) * (HEIGHT - 2 * EDGE);
  const step = (width - LEFT - EDGE) / betas.length;
  const picture = svg("svg", "betas", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": labelOf(values, betas.length) });
  picture.append(svg("line", "axis", { x1: LEFT, x2: LEFT, y1: EDGE, y2: HEIGHT - EDGE }));
  picture.append(svg("line", "one", { x1: LEFT, x2: width - EDGE, y1: y(1), y2: y(1) }));
  const ends = values.length ? [Math.min(...values), Math.max(...values)] : [];
  for (const value of new Set([1, ...ends])) {
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

/** The ends of the axis: 1 and all values, with room around them where they are the same. */
function rangeOf(values) {
  const [low, high] = [Math.min(1, ...values), Math.max(1, ...values)];
  if (high - low > 1e-6 * Math.max(Math.abs(low), Math.abs(high))) return [low, high];
  const room = 0.5 * Math.max(Math.abs(low), Math.abs(high));
  return [low - room, high + room];
}

function labelOf(values, count) {
  const betas = `${number(count)} learned ${count > 1 ? "betas" : "beta"}`;
  if (!values.length) return `${betas}, none of them finite`;
  const odd = count > values.length ? `; ${number(count - values.length)} not finite` : "";
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? `${betas}, ${values.length > 1 ? "all of them " : ""}${number(least)}${odd}` : `${betas} from ${number(least)} to ${number(most)}${odd}`;
}
