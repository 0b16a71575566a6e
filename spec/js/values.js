/** How an entry gives its values: in a coding, as a constant, or by a distribution (spec/v1/descriptor.md, section 4). */

import { SEEDED, SLICE, codingsOf, fieldsOfCoding } from "./codings.js";
import { matrixFault } from "./hadamard.js";
import { GENERATED, ITEM_SIZE } from "./shapes.js";
import { BUILTIN, HADAMARD, extremes, scaleFault } from "./tables.js";
import { quote } from "./text.js";

export const TORCH_CPU = "torch-cpu";
export const CONSTRUCTOR = "constructor";

/** Whether an entry's values are generated. */
export const isGenerated = (entry) => entry.role === "seeded" || entry.role === "adapted";

/** The place of an entry in errors. */
export const placeOf = (name) => `parameters[${quote(name)}]`;

/** `seeded`: whether it may come from the seed or another adapter. Returns whether it comes from the seed, with its fields. */
export function checkCoding(out, { dtype, coding }, place, seeded = false) {
  out.known(coding.id, [...codingsOf(dtype), ...(seeded ? [SEEDED, SLICE] : [])], `${place}.id`, `coding of a ${dtype}`);
  const due = fieldsOfCoding(coding.id);
  const wrong = due && ["codes", "distribution", "of", "scale", "scales"].find((field) => due.includes(field) !== field in coding);
  if (wrong) out.add("field", place, `${coding.id} has ${due.includes(wrong) ? "" : "no "}${wrong}`);
  for (const part of ["codes", "scales"]) {
    if (part in coding) out.hexadecimal(coding[part], 64, `${place}.${part}`);
  }
  return seeded && coding.id === SEEDED && !wrong;
}

export function checkConstant(out, { dtype, value }, place) {
  const digits = 2 * (ITEM_SIZE.get(dtype) ?? 0);
  const right = value.length === digits && /^[0-9a-f]*$/.test(value);
  if (digits && (!right || (dtype === "bool" && value !== "00" && value !== "01"))) {
    const form = dtype === "bool" ? '"00" or "01"' : `${digits} lower-case hexadecimal digits`;
    out.add("value", `${place}.value`, `the value of a ${dtype} must be ${form}`);
  }
}

/** Only built-in tables are checked here; a pack's own table is known when its tensor is read. */
export function checkDistribution(out, { distribution, scale, dtype, shape }, rng, place) {
  if (rng?.id === TORCH_CPU) {
    out.known(distribution, [CONSTRUCTOR], `${place}.distribution`, "distribution");
    if (scale !== 1) out.add("scale", `${place}.scale`, `with ${TORCH_CPU} the scale must be 1.0`);
  } else if (BUILTIN.has(distribution)) {
    const fault = GENERATED.includes(dtype) ? scaleFault(extremes(distribution), scale, dtype) : null;
    if (fault) out.add("scale", `${place}.scale`, fault);
    const long = distribution === HADAMARD ? matrixFault(shape) : null;
    if (long) out.add("shape", `${place}.shape`, long);
  } else if (rng) {
    out.known(distribution, [...BUILTIN.keys(), ...rng.tables.keys()], `${place}.distribution`, "distribution");
  }
}
