/** The coding `trellis8`: trellis-coded quantisation with an entropy coder (spec/v1/codings.md, section 6). */

import { CodingFault } from "./faults.js";
import { widen } from "./tables.js";

const NEXT = [0, 1, 2, 3, 5, 4, 7, 6, 1, 0, 3, 2, 4, 5, 6, 7];
const SLOTS = 4096;
const LOW = 32768;
const SYMBOLS = 104;
const MAX_CLASSES = 16;
const MAX_LANES = 64;
const PER_LANE = 4096;
const SMALLEST_STEP = 2 ** -100;
const LARGEST_STEP = 2 ** 100;

const RAW = Array.from({ length: SYMBOLS }, (_, symbol) => Math.max((symbol >> 3) - 1, 0));
const BASE = RAW.map((raw, symbol) => (symbol < 16 ? symbol : ((symbol % 8) + 8) << raw));

/** The values of a tensor, in row-major order, as binary32 numbers. Throws CodingFault. */
export function trellis(bytes, shape) {
  const sizes = shape.map(Number);
  if (sizes.includes(0)) throw new CodingFault("", "has no elements, and trellis8 is for some");
  const head = new Head(bytes);
  const order = head.byte();
  if (order > 1) throw new CodingFault("codes", `has the order ${order}; it should be 0 or 1`);
  const product = (numbers) => numbers.reduce((all, size) => all * size, 1);
  const [first, rest] = sizes.length > 1 ? [sizes[0], product(sizes.slice(1))] : [1, product(sizes)];
  const [rows, length] = order ? [rest, first] : [first, rest];
  const kinds = head.byte();
  if (kinds < 1 || kinds > MAX_CLASSES) {
    throw new CodingFault("codes", `has ${kinds} classes of rows; it should have 1 to ${MAX_CLASSES}`);
  }
  const step = head.step();
  const tables = Array.from({ length: 2 * kinds }, () => head.table());
  const classes = head.classes(rows, kinds);
  const made = decode(head, tables, classes, rows, length, step);
  if (!order) return made;
  const turned = new Float32Array(made.length);
  for (let row = 0, from = 0; row < rows; row += 1) {
    for (let at = row; at < turned.length; at += rows) turned[at] = made[(from += 1) - 1];
  }
  return turned;
}

/** Reads the part before the words. */
class Head {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(count) {
    const part = this.bytes.subarray(this.at, this.at + count);
    if (part.length < count) throw new CodingFault("codes", "ends before its tables and states do");
    this.at += count;
    return part;
  }

  byte() {
    return this.take(1)[0];
  }

  step() {
    const [low, high] = this.take(2);
    const [step] = widen(new Uint16Array([low | (high << 8)]), "bfloat16");
    if (!(step >= SMALLEST_STEP && step <= LARGEST_STEP)) {
      throw new CodingFault("codes", "has a step that is not from 2**-100 to 2**100");
    }
    return step;
  }

  /** Of each slot: the symbol, the frequency and the slot's place in it, and whether the sign is negative. */
  table() {
    const count = this.byte();
    if (count < 1 || count > SYMBOLS) {
      throw new CodingFault("codes", `has a table of ${count} magnitudes; it should have 1 to ${SYMBOLS}`);
    }
    const shares = Array.from({ length: count }, () => this.share());
    const total = shares.reduce((sum, share) => sum + share, 0);
    if (total !== SLOTS / 2) throw new CodingFault("codes", `has a table whose frequencies add up to ${total}, not 2048`);
    if (!shares[count - 1]) throw new CodingFault("codes", "has a table whose last frequency is 0");
    const table = {
      symbols: new Uint8Array(SLOTS),
      frequencies: new Uint16Array(SLOTS),
      places: new Uint16Array(SLOTS),
      negative: new Uint8Array(SLOTS),
    };
    let at = 0;
    shares.forEach((share, symbol) => {
      for (let sign = 0; sign < (symbol ? 2 : 1); sign += 1) {
        const frequency = symbol ? share : 2 * share;
        for (let place = 0; place < frequency; place += 1, at += 1) {
          table.symbols[at] = symbol;
          table.frequencies[at] = frequency;
          table.places[at] = place;
          table.negative[at] = sign;
        }
      }
    });
    return table;
  }

  share() {
    const low = this.byte();
    if (low < 128) return low;
    const high = this.byte();
    if (high < 1 || high > 16) {
      throw new CodingFault("codes", "has a frequency that is not in its shortest form, or over 2,048");
    }
    return (high << 7) | (low & 127);
  }

  classes(rows, kinds) {
    const found = new Uint8Array(rows);
    if (kinds === 1) return found;
    const packed = this.take((rows + 1) >> 1);
    for (let row = 0; row < rows; row += 1) {
      found[row] = (packed[row >> 1] >> (4 * (row & 1))) & 15;
      if (found[row] >= kinds) throw new CodingFault("codes", `has a row of a class that is not one of its ${kinds}`);
    }
    if (rows % 2 && packed[packed.length - 1] >> 4) {
      throw new CodingFault("codes", "has something in the half byte after the last class");
    }
    return found;
  }

  states(lanes) {
    const view = new DataView(this.take(4 * lanes).slice().buffer);
    const states = Float64Array.from({ length: lanes }, (_, lane) => view.getUint32(4 * lane, true));
    if (states.some((state) => state < LOW || state >= LOW * 65536)) {
      throw new CodingFault("codes", "has a state below 2**15 or beyond 2**31 - 1");
    }
    return Int32Array.from(states);
  }

  words() {
    const rest = this.bytes.subarray(this.at);
    if (rest.length % 2) throw new CodingFault("codes", "ends within a word");
    const words = new Uint16Array(rest.length / 2);
    for (let i = 0; i < words.length; i += 1) words[i] = rest[2 * i] | (rest[2 * i + 1] << 8);
    return words;
  }
}

function decode(head, tables, classes, rows, length, step) {
  const count = rows * length;
  let lanes = 1;
  while (lanes < MAX_LANES && 2 * lanes * PER_LANE <= count) lanes *= 2;
  const states = head.states(lanes);
  const words = head.words();
  const paths = new Uint8Array(lanes);
  const values = new Float32Array(count);
  let read = 0;
  let i = 0;
  for (let row = 0; row < rows; row += 1) {
    const pair = tables.slice(2 * classes[row], 2 * classes[row] + 2);
    for (let column = 0; column < length; column += 1, i += 1) {
      const lane = i % lanes;
      const second = paths[lane] & 1;
      const table = pair[second];
      let x = states[lane];
      const slot = x & (SLOTS - 1);
      x = table.frequencies[slot] * (x >>> 12) + table.places[slot];
      if (x < LOW) x = (x << 16) | words[read++];
      const symbol = table.symbols[slot];
      const raw = RAW[symbol];
      const magnitude = BASE[symbol] + (raw ? x & ((1 << raw) - 1) : 0);
      x >>>= raw;
      if (x < LOW) x = (x << 16) | words[read++];
      states[lane] = x;
      paths[lane] = NEXT[2 * paths[lane] + (magnitude & 1)];
      if (read > words.length) throw new CodingFault("codes", "ends before its last element");
      const whole = magnitude ? 2 * magnitude - second : 0;
      values[i] = (table.negative[slot] ? -whole : whole) * step;
    }
  }
  if (read !== words.length || states.some((state) => state !== LOW)) {
    throw new CodingFault("codes", "has something after its last element, or does not end where it began");
  }
  return values;
}
