/** The dtypes of tensors that the architecture computes (spec/v1/descriptor.md, section 7). */

import { nameFault } from "./parameters.js";
import { FLOATING } from "./shapes.js";
import { kindOf, quote } from "./text.js";

const MOST = 10_000;

/** The dtypes by name. `parameters`: those of the pack by name, or null. */
export function readComputed(out, value, parameters) {
  if (!(value instanceof Map)) {
    out.add("field", "computed", `should be an object, not ${kindOf(value)}`);
    return new Map();
  }
  if (!value.size || value.size > MOST) {
    out.add("field", "computed", `names ${value.size} tensors; it should name 1 to ${MOST}`);
    return new Map();
  }
  for (const [name, dtype] of value) {
    const place = `computed[${quote(name)}]`;
    const fault = nameFault(name) ?? (parameters?.has(name) ? "is a parameter, whose own entry says its dtype" : null);
    if (fault) out.add("name", place, fault);
    if (typeof dtype !== "string") out.add("field", place, `should be a string, not ${kindOf(dtype)}`);
    else out.known(dtype, FLOATING, place, "floating dtype");
  }
  return value;
}
