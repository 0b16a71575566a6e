/** Arguments of a call as JSON (spec/v1/architectures.md, section 3). */

import { problem } from "./errors.js";

const MAX_DEPTH = 16;
const MAX_VALUES = 10_000;
/** Characters of an architecture's class, and of an import path. */
export const MAX_PATH = 512;
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
const CLASS_PATH = /^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*:[A-Za-z][A-Za-z0-9_]*$/;

/** The fault of an import path, or null. */
export function pathProblems(where, path) {
  if (path.length <= MAX_PATH && CLASS_PATH.test(path)) return [];
  return [problem("architecture", where, 'should be of the form "package.module:Class", without leading underscores')];
}

/**
 * All faults of keyword arguments.
 *
 * `refused(key)`: keys that are not allowed anywhere, in a family without classes as arguments; null if classes are allowed.
 */
export function argumentProblems(where, config, refused) {
  const problems = [];
  const pending = [];
  const add = (place, message) => problems.push(problem("architecture", place, message));

  const look = (place, value, depth) => {
    if (pending.length <= MAX_VALUES) pending.push([place, value, depth]); // one more than may be, and no more
  };
  const fields = (place, given, depth) => {
    for (const [key, value] of given) {
      if (refused?.(key)) add(`${place}.${key}`, "a pack cannot set this argument");
      look(`${place}.${key}`, value, depth);
    }
  };
  const named = (place, given, depth) => {
    for (const key of given.keys()) {
      if (!NAME.test(key) && !refused?.(key)) add(`${place}.${key}`, "is not the name of an argument");
    }
    fields(place, given, depth);
  };
  const items = (place, given, depth) => {
    given.forEach((item, index) => look(`${place}[${index}]`, item, depth + 1));
  };
  const object = (place, value, depth) => {
    if (value.size === 1 && Array.isArray(value.get("tuple"))) {
      items(`${place}.tuple`, value.get("tuple"), depth);
    } else if (!refused && isClass(value)) {
      problems.push(...pathProblems(`${place}.class`, value.get("class")));
      named(`${place}.config`, value.get("config"), depth + 1);
    } else if (!refused && value.size === 1 && typeof value.get("class") === "string") {
      problems.push(...pathProblems(`${place}.class`, value.get("class")));
    } else if (value.has("tuple") || value.has("class")) {
      const forms = `{"tuple": [...]}${refused ? "" : ', {"class": "..."} and {"class": "...", "config": {...}}'}`;
      add(place, `only ${forms} may have the keys tuple and class`);
    } else {
      fields(place, value, depth + 1);
    }
  };

  named(where, config, 1);
  for (let count = 1; count <= pending.length; count += 1) {
    const [place, value, depth] = pending[count - 1];
    if (depth > MAX_DEPTH || count > MAX_VALUES) {
      add(place, `the arguments are too large: at most ${MAX_DEPTH} levels and ${MAX_VALUES} values`);
      break;
    }
    if (Array.isArray(value)) items(place, value, depth);
    else if (value instanceof Map) object(place, value, depth);
  }
  return problems;
}

function isClass(value) {
  return value.size === 2 && typeof value.get("class") === "string" && value.get("config") instanceof Map;
}
