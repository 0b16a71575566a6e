/** Reading and checking `rng.scaffolds`: other seeds under the same learned tensors (spec/v1/descriptor.md, section 6). */

import { isGenerated } from "./values.js";
import { OBJECT, TEXT } from "./records.js";
import { compareCodePoints, kindOf, quote } from "./text.js";

/** The name of the scaffold of the main seed. */
export const DEFAULT = "default";

const MOST = 64;
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** The place of a scaffold in the descriptor, or of its fingerprint of a parameter. */
export function scaffoldPlace(name, parameter = null) {
  const place = `rng.scaffolds[${quote(name)}]`;
  return parameter === null ? place : `${place}.fingerprints[${quote(parameter)}]`;
}

/** The entries by name as `{seed, fingerprints}` (text, and a Map), or null if one cannot be read. */
export function readScaffolds(out, value) {
  if (!(value instanceof Map)) {
    out.add("field", "rng.scaffolds", `must be an object, not ${kindOf(value)}`);
    return null;
  }
  if (!value.size || value.size > MOST) {
    out.add("field", "rng.scaffolds", `names ${value.size} scaffolds; it must name 1 to ${MOST}`);
    return null;
  }
  const found = new Map([...value].map(([name, item]) => [name, readScaffold(out, name, item)]));
  return [...found.values()].includes(null) ? null : found;
}

function readScaffold(out, name, item) {
  const place = scaffoldPlace(name);
  if (name === DEFAULT || !NAME.test(name)) {
    out.add("id", place, "a name has 1 to 64 of a-z, 0-9, point, dash and _, begins with a letter or digit, and is not default");
  }
  const prints = item instanceof Map ? item.get("fingerprints") : null;
  for (const [parameter, text] of prints instanceof Map ? prints : []) {
    if (typeof text !== "string") {
      out.add("field", scaffoldPlace(name, parameter), `must be a string, not ${kindOf(text)}`);
      return null;
    }
    out.hexadecimal(text, 16, scaffoldPlace(name, parameter));
  }
  if (!out.record(item, { seed: TEXT, fingerprints: OBJECT }, place)) return null;
  out.hexadecimal(item.get("seed"), 16, `${place}.seed`);
  return { seed: item.get("seed"), fingerprints: prints };
}

/** Check that seeds differ and each generated parameter has a fingerprint. `parameters`: null if they are faulty. */
export function checkScaffolds(out, { seedText, scaffolds }, parameters) {
  const seen = new Map([[seedText, DEFAULT]]);
  for (const [name, { seed }] of scaffolds) {
    if (seen.has(seed)) out.add("scaffold", `${scaffoldPlace(name)}.seed`, `has the seed of the scaffold ${seen.get(seed)}`);
    else seen.set(seed, name);
  }
  if (!parameters) return;
  const generated = new Set([...parameters].filter(([, entry]) => isGenerated(entry)).map(([name]) => name));
  for (const [name, { fingerprints }] of scaffolds) {
    const missing = [...generated].filter((parameter) => !fingerprints.has(parameter));
    const wrong = [...missing, ...[...fingerprints.keys()].filter((parameter) => !generated.has(parameter))];
    if (!wrong.length) continue;
    const [first] = wrong.sort(compareCodePoints);
    const what = generated.has(first) ? "is missing" : "belongs to no generated parameter";
    out.add("scaffold", `${scaffoldPlace(name)}.fingerprints`, `the fingerprint of ${quote(first)} ${what}`);
  }
}
