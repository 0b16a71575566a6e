/** Ordering, writing and shortening strings by code points, not by UTF-16 units. */

const SHORT = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" };

/** A string as canonical JSON. */
export function writeString(text) {
  const escaped = text.replace(/["\\\u0000-\u001f]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(4, "0");
    return SHORT[character] ?? `\\u${code}`;
  });
  return `"${escaped}"`;
}

/** Bytes of a text in UTF-8. */
export function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2; // a pair takes four
  }
  return bytes;
}

/** Order of code points; JavaScript's own order is of UTF-16 units, which differs beyond U+FFFF. */
export function compareCodePoints(a, b) {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) {
      const high = (unit) => unit >= 0xd800 && unit <= 0xdfff;
      return high(x) === high(y) ? x - y : high(x) ? 1 : -1;
    }
  }
  return a.length - b.length;
}

/** The first `limit` code points of a text. */
export function cut(text, limit) {
  if (text.length <= limit) return text;
  let end = 0;
  for (let count = 0; count < limit && end < text.length; count += 1) end += text.codePointAt(end) > 0xffff ? 2 : 1;
  return text.slice(0, end);
}

/** A name as JSON writes it, shortened as the vectors' README says. */
export function quote(name, limit = 100) {
  return writeString(cut(name, limit) === name ? name : `${cut(name, limit - 3)}...`);
}

/** The JSON name of a value's type. */
export function kindOf(value) {
  if (value instanceof Map) return "an object";
  if (Array.isArray(value)) return "an array";
  const names = { string: "a string", boolean: "a boolean", bigint: "an integer", number: "a float" };
  return names[typeof value] ?? "null";
}
