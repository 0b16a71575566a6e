/**
 * Canonical JSON: one text for one value (spec/v1/container.md, section 4).
 *
 * `JSON.parse` does not preserve the difference of 1 and 1.0, or keys that stand there twice. Values here are
 * null, booleans, strings, bigint (an integer), number (a float), arrays, and Map (an object, in the text's order).
 */

import { compareCodePoints, utf8Length, writeString } from "./text.js";

export const MAX_DEPTH = 64;
const MAX_KEY_BYTES = 8192;
const GREATEST_INTEGER = BigInt(Number.MAX_SAFE_INTEGER); // 2**53 - 1; the least is its negative
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const SPACE = /[ \t\n\r]*/y;
const ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

/** The fault of a text; `kind` is json or canonical. */
export class JsonFault extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** Read canonical JSON from bytes; anything else throws JsonFault. */
export function parseCanonical(bytes) {
  const text = decode(bytes);
  const value = new Parser(text).whole();
  const written = stringify(value);
  if (written !== text) {
    let place = 0;
    while (place < text.length && text[place] === written[place]) place += 1;
    const found = JSON.stringify(text.slice(place, place + 16));
    const due = JSON.stringify(written.slice(place, place + 16));
    const rule = "keys sorted, no spaces, shortest numbers";
    throw new JsonFault("canonical", `is not canonical JSON: ${found} should be ${due} (${rule})`);
  }
  return value;
}

/** Read any JSON, canonical or not; throws JsonFault. */
export function parse(bytes) {
  return new Parser(decode(bytes)).whole();
}

function decode(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new JsonFault("json", "is not JSON in UTF-8 within the format's limits (bytes that are not UTF-8)");
  }
}

class Parser {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.depth = 0;
  }

  whole() {
    this.skip();
    const value = this.value();
    this.skip();
    if (this.at < this.text.length) this.refuse("unexpected text after the value");
    return value;
  }

  refuse(what) {
    throw new JsonFault("json", `is not JSON in UTF-8 within the format's limits (${what}, at character ${this.at})`);
  }

  skip() {
    this.match(SPACE);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  word(text, value) {
    if (!this.text.startsWith(text, this.at)) this.refuse("expected a value");
    this.at += text.length;
    return value;
  }

  value() {
    switch (this.text[this.at]) {
      case "{":
        return this.nested(() => this.object());
      case "[":
        return this.nested(() => this.array());
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  nested(read) {
    this.depth += 1;
    if (this.depth > MAX_DEPTH) this.refuse(`nested more than ${MAX_DEPTH} deep`);
    this.at += 1;
    this.skip();
    const value = read();
    this.depth -= 1;
    return value;
  }

  /** Whether another item follows; steps over the comma or the closing bracket. */
  more(end) {
    this.skip();
    const next = this.text[this.at];
    if (next !== "," && next !== end) this.refuse(`expected a comma or ${end}`);
    this.at += 1;
    if (next === end) return false;
    this.skip();
    return true;
  }

  object() {
    const found = new Map();
    if (this.text[this.at] === "}") {
      this.at += 1;
      return found;
    }
    do {
      if (this.text[this.at] !== '"') this.refuse("expected a key");
      const begin = this.at + 1;
      const key = this.string();
      if (3 * (this.at - begin) > MAX_KEY_BYTES && utf8Length(this.text.slice(begin, this.at - 1)) > MAX_KEY_BYTES) {
        this.refuse(`a key of more than ${MAX_KEY_BYTES} bytes`);
      }
      this.skip();
      if (this.text[this.at] !== ":") this.refuse("expected a colon");
      this.at += 1;
      this.skip();
      const value = this.value();
      found.set(key, value);
    } while (this.more("}"));
    return found;
  }

  array() {
    const found = [];
    if (this.text[this.at] === "]") {
      this.at += 1;
      return found;
    }
    do {
      found.push(this.value());
    } while (this.more("]"));
    return found;
  }

  string() {
    this.at += 1;
    const parts = [];
    for (;;) {
      parts.push(this.match(PLAIN)[0]);
      const next = this.text[this.at];
      if (next === undefined) this.refuse("a string does not end");
      this.at += 1;
      if (next === '"') break;
      if (next !== "\\") this.refuse("a control character in a string");
      parts.push(this.escape());
    }
    const text = parts.length === 1 ? parts[0] : parts.join("");
    if (parts.length > 1 && /\p{Surrogate}/u.test(text)) this.refuse("a lone surrogate");
    return text;
  }

  escape() {
    const letter = this.text[this.at];
    this.at += 1;
    if (letter !== "u") {
      if (letter === undefined || !Object.hasOwn(ESCAPES, letter)) this.refuse("an unknown escape");
      return ESCAPES[letter];
    }
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.refuse("an escape without four digits");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  number() {
    const found = this.match(NUMBER);
    if (!found) this.refuse("expected a value");
    const [text, fraction, exponent] = found;
    if (fraction === undefined && exponent === undefined) {
      const value = text.length <= 17 ? BigInt(text) : null; // so many characters has the least, with its sign
      if (value === null || value < -GREATEST_INTEGER || value > GREATEST_INTEGER) this.refuse("an integer is out of range");
      return value;
    }
    const value = Number(text);
    if (!Number.isFinite(value)) this.refuse("a float is out of range");
    return value;
  }
}

/** The canonical text of a value. */
export function stringify(value) {
  const parts = [];
  write(value, parts);
  return parts.join("");
}

function write(value, parts) {
  if (value instanceof Map) {
    parts.push("{");
    const keys = sortedByCodePoints(value.keys());
    keys.forEach((key, index) => {
      parts.push(index ? "," : "", writeString(key), ":");
      write(value.get(key), parts);
    });
    parts.push("}");
  } else if (Array.isArray(value)) {
    parts.push("[");
    value.forEach((item, index) => {
      if (index) parts.push(",");
      write(item, parts);
    });
    parts.push("]");
  } else if (typeof value === "string") {
    parts.push(writeString(value));
  } else {
    parts.push(typeof value === "number" ? writeFloat(value) : String(value));
  }
}

/** A float as Python's `repr` writes it; JavaScript finds the same digits, but formats them differently. */
export function writeFloat(value) {
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [, sign, head, tail = "", power] = /^(-?)([0-9])(?:\.([0-9]+))?e([-+][0-9]+)$/.exec(value.toExponential());
  const digits = head + tail;
  const exponent = Number(power) + 1; // of 0.d1d2d3...
  if (-4 < exponent && exponent <= 16) {
    if (exponent <= 0) return `${sign}0.${"0".repeat(-exponent)}${digits}`;
    const whole = digits.slice(0, exponent).padEnd(exponent, "0");
    return `${sign}${whole}.${digits.slice(exponent) || "0"}`;
  }
  const shown = String(Math.abs(exponent - 1)).padStart(2, "0");
  return `${sign}${head}${tail && `.${tail}`}e${exponent > 0 ? "+" : "-"}${shown}`;
}

function sortedByCodePoints(keys) {
  const found = [...keys];
  for (let i = 1; i < found.length; i += 1) {
    if (compareCodePoints(found[i - 1], found[i]) >= 0) return found.sort(compareCodePoints);
  }
  return found;
}
