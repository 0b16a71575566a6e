/** Reading Protocol Buffers: the fields of a message, without a schema. Throws RangeError for what is not a message. */

const TEXT = new TextDecoder();

/**
 * The fields of the message between `begin` and `end`: `{number, value}` for an integer, `{number, begin, end}` for bytes; numbers
 * of a fixed size are skipped. `from` and `to`: where the field itself lies.
 */
export function* fields(bytes, { begin, end }) {
  for (let at = begin; at < end; ) {
    const from = at;
    const [key, after] = varint(bytes, at, end);
    const number = Number(key >> 3n);
    const wire = Number(key & 7n);
    if (wire === 0) {
      const [value, to] = varint(bytes, after, end);
      yield { number, value, from, to };
      at = to;
    } else if (wire === 2) {
      const [length, first] = varint(bytes, after, end);
      if (length > BigInt(end - first)) throw new RangeError("a part of it is longer than the whole");
      at = first + Number(length);
      yield { number, begin: first, end: at, from, to: at };
    } else if (wire === 1 || wire === 5) {
      at = after + (wire === 1 ? 8 : 4);
      if (at > end) throw new RangeError("it ends inside a number");
    } else throw new RangeError(`it has a field of the kind ${wire}`);
  }
}

/** An integer at a place, and the place after it. */
function varint(bytes, at, end) {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    if (at >= end) throw new RangeError("it ends inside a number");
    const byte = bytes[at++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return [value, at];
  }
  throw new RangeError("it has a number of more than ten bytes");
}

/** The integers of a field of a list: one, or several packed. */
export function integers(bytes, { value, begin, end }) {
  if (value !== undefined) return [value];
  const found = [];
  for (let at = begin; at < end; ) {
    const [one, after] = varint(bytes, at, end);
    found.push(one);
    at = after;
  }
  return found;
}

/** The text of a field. */
export function textOf(bytes, { begin, end }) {
  return TEXT.decode(bytes.subarray(begin, end));
}
