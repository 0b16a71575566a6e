/** Building the page. Names in a pack are not trusted, so they are set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** An element with a class, attributes and children (elements or text). */
export function element(tag, className = "", attributes = {}, ...children) {
  return made(document.createElement(tag), className, attributes, children);
}

/** The same in SVG. */
export function svg(tag, className = "", attributes = {}, ...children) {
  return made(document.createElementNS(SVG, tag), className, attributes, children);
}

function made(node, className, attributes, children) {
  if (className) node.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A count with separators, or another number in at most three digits. */
export function number(value) {
  if (Number.isSafeInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** A readable size in decimal units, as in the command line: 24.3 MB. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB", "TB", "PB", "EB", "ZB"];
  const [digits, power] = bytes.toExponential(2).split("e").map(Number);
  const unit = Math.min(Math.floor(power / 3), units.length);
  return `${Number((digits * 10 ** (power - 3 * unit)).toPrecision(3))} ${units[unit - 1]}`;
}

/** A share as a percentage. */
export function percent(part, whole) {
  return `${Number(((100 * part) / whole).toPrecision(3))}%`;
}
