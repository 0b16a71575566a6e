/** Collects all faults of a descriptor, each with its place. */

import { MOST, problem } from "./errors.js";
import { kindOf, quote } from "./text.js";

const ofType = (type, name) => (value) => (typeof value === type ? null : ["", `should be ${name}`]);

/** Checks of a field's form: null, or the place in the field and the fault. */
export const TEXT = ofType("string", "a string");
export const INTEGER = ofType("bigint", "an integer");
export const FLOAT = ofType("number", "a float such as 1.0");
export const BOOLEAN = ofType("boolean", "true or false");
export const OBJECT = (value) => (value instanceof Map ? null : ["", "should be an object"]);
export const INTEGERS = (value) => {
  if (!Array.isArray(value)) return ["", "should be an array of integers"];
  const wrong = value.find((item) => typeof item !== "bigint");
  return wrong === undefined ? null : ["", `should only have integers, not ${kindOf(wrong)}`];
};
export const optional = (check) => Object.assign((value) => check(value), { optional: true });

/** An object with exactly these fields, `x-...` aside, as a check. */
export const record = (fields) => (value) => recordFault(value, fields);

/** The same if `x-...` is not allowed either. */
export const exactRecord = (fields) => (value) => recordFault(value, fields, true);

function recordFault(value, fields, exact = false) {
  if (!(value instanceof Map)) return ["", `should be an object, not ${kindOf(value)}`];
  for (const [key, item] of value) {
    if (key.startsWith("x-") && !exact) continue;
    if (!Object.hasOwn(fields, key)) return ["", `the field ${JSON.stringify(key)} is unknown`];
    const fault = fields[key](item);
    if (fault) return [`.${key}${fault[0]}`, `${fault[1]}`];
  }
  const missing = Object.keys(fields).find((key) => !fields[key].optional && !value.has(key));
  return missing === undefined ? null : ["", `the field ${missing} is missing`];
}

/** A list of problems, and the checks that add to it. */
export class Collector {
  constructor() {
    this.problems = [];
  }

  add(kind, where, message) {
    if (this.problems.length < MOST) this.problems.push(problem(kind, where, message));
  }

  addAll(problems) {
    for (const { kind, where, message } of problems) this.add(kind, where, message);
  }

  /** Whether an object has exactly these fields, each of its form; records the first fault. */
  record(value, fields, where) {
    const fault = recordFault(value, fields);
    if (fault) this.add("field", where + fault[0], fault[1]);
    return !fault;
  }

  /** Check that the word is one of those allowed. */
  known(word, allowed, where, what) {
    if (allowed.includes(word)) return true;
    this.add("id", where, `the ${what} ${quote(word)} is unknown; known: ${allowed.join(", ")}`);
    return false;
  }

  /** Check that the text is `digits` lower-case hexadecimal digits. */
  hexadecimal(text, digits, where) {
    if (text.length !== digits || !/^[0-9a-f]*$/.test(text)) {
      this.add("field", where, `must be ${digits} lower-case hexadecimal digits`);
    }
  }
}

/** The fields of a Map that are not `x-...`, as an object. */
export function fieldsOf(map) {
  return Object.fromEntries([...map].filter(([key]) => !key.startsWith("x-")));
}
