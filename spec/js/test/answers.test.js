/** The known answers of spec/v1/vectors, each case one test. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as lotta from "../lottapack.js";
import { ADAPTER_PARTS } from "../adapters.js";
import { Sha256 } from "../sha256.js";
import { ARGUMENTS } from "../torch_nn.js";
import { VECTORS, answers, words } from "./vectors.js";

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const halvesOf = (text) => lotta.halves(BigInt(`0x${text}`));
const bitsArray = (texts, dtype) => (dtype === "float32" ? Uint32Array : Uint16Array).from(words(texts));

for (const { counter, key, output } of answers("philox").random123) {
  test(`philox ${counter.join(" ")}, key ${key.join(" ")}`, () => {
    const [c0, c1, ...stream] = words(counter);
    const found = new Int32Array(4);
    lotta.philox(found, 1, c0, c1, stream, words(key));
    assert.deepEqual(Array.from(found, (word) => word >>> 0), words(output));
  });
}

test("philox of C++26", () => {
  // The 10,000th value of std::philox4x32: counter 2499, lane 3.
  const found = new Int32Array(4);
  lotta.philox(found, 1, 2499, 0, [0, 0], [20111115, 0]);
  assert.equal(found[3] >>> 0, 1955073260);
});

for (const { why, name, stream } of answers("streams").cases) {
  test(`stream: ${why}`, () => {
    const [low, high] = lotta.streamOf(name);
    assert.equal((BigInt(high) << 32n) | BigInt(low), BigInt(`0x${stream}`));
  });
}

for (const { id, bits, sha256, entries } of answers("tables").tables) {
  test(`table ${id}`, () => {
    const table = lotta.builtinTable(id);
    assert.equal(table.length, 2 ** bits);
    assert.equal(lotta.sha256(bytesOf(table)), sha256);
    const found = lotta.roundTo(table, "float32");
    for (const [index, word] of Object.entries(entries)) assert.equal(found[index], parseInt(word, 16));
  });
}

test("tables: there are no others", () => {
  assert.deepEqual([...lotta.BUILTIN.keys()], answers("tables").tables.map(({ id }) => id));
});

for (const one of answers("elements").cases) {
  test(`elements: ${one.case}`, () => {
    const { bits, dtype } = one;
    const given = one.table && Uint32Array.from(words(one.table));
    const own = given && Uint32Array.from({ length: 2 ** bits }, (_, n) => given[n % given.length]);
    const table = own ? new Float32Array(own.buffer) : lotta.builtinTable(one.distribution);
    const out = dtype === "float32" ? new Uint32Array(one.count) : new Uint16Array(one.count);
    const start = BigInt(one.start); // beyond 2**53, so it is a text
    const source = [lotta.streamOf(one.name), halvesOf(one.seed), start];
    const lut = lotta.bitsOf(table, one.scale, dtype);
    if (one.shape) lotta.fillHadamard(out, lut, lotta.matrixOf(one.shape), ...source);
    else lotta.fill(out, lut, bits, ...source);
    if (one.values) assert.deepEqual(Array.from(out), words(one.values));
    assert.equal(lotta.sha256(bytesOf(out)), one.sha256);
    assert.equal(lotta.fingerprintHex(lotta.fingerprint(out, start)), one.fingerprint);
  });
}

for (const one of answers("merge").cases) {
  test(`merge: ${one.name}`, () => {
    const { rank, dtype, adapter_dtype: from } = one;
    const part = (texts) => texts && lotta.widen(bitsArray(texts, from), from);
    const entry = { ...one, shape: one.shape.map(BigInt), batch_dims: BigInt(one.batch_dims) };
    const weight = lotta.widen(bitsArray(one.weight, dtype), dtype);
    lotta.mergeInto(weight, {
      ...Object.fromEntries(ADAPTER_PARTS.map((name) => [name, part(one[name])])),
      scaling: lotta.scalingFactor(one.alpha, rank, one.scaling),
      rank,
      dims: lotta.factorDims(entry).slice(1).map(Number),
      fanInFanOut: one.fan_in_fan_out,
    });
    assert.deepEqual(Array.from(lotta.roundTo(weight, dtype)), words(one.merged));
  });
}

for (const { why, text, canonical, is_canonical: isCanonical } of answers("json").accepted) {
  test(`json accepted: ${why}`, () => {
    const bytes = new TextEncoder().encode(text);
    assert.equal(lotta.stringify(lotta.parse(bytes)), canonical);
    assert.equal(lotta.stringify(lotta.parseCanonical(new TextEncoder().encode(canonical))), canonical);
    if (!isCanonical) assert.throws(() => lotta.parseCanonical(bytes), { kind: "canonical" });
  });
}

for (const { why, kind, pieces } of answers("json").refused) {
  test(`json refused: ${why}`, () => {
    const bytes = Buffer.concat(pieces.map(([hex, times]) => Buffer.alloc(hex.length / 2 * times, hex, "hex")));
    assert.throws(() => lotta.parseCanonical(bytes), { kind });
  });
}

for (const one of answers("codings").cases) {
  test(`coding: ${one.id}, ${one.dtype}, ${one.case}`, () => {
    const bytes = (hex) => Buffer.from(`ff${hex}`, "hex").subarray(1); // a view at an odd place
    const entry = { shape: one.shape.map(BigInt), dtype: one.dtype, coding: { id: one.id } };
    const scales = one.scales === null ? {} : { scales: bytes(one.scales) };
    const found = lotta.decodeParameter(entry, { codes: bytes(one.codes), ...scales });
    if (one.decoded !== null) assert.equal(Buffer.from(found).toString("hex"), one.decoded);
    assert.equal(lotta.sha256(found), one.sha256);
  });
}

test("torch_nn.js says what torch_nn.json says", () => {
  assert.deepEqual(ARGUMENTS, JSON.parse(readFileSync(new URL("../../v1/torch_nn.json", import.meta.url), "utf8")));
});

test("SHA-256 of every length and in pieces", () => {
  for (let length = 0; length < 200; length += 1) {
    const bytes = randomBytes(length);
    const due = createHash("sha256").update(bytes).digest("hex");
    assert.equal(lotta.sha256(bytes), due);
    const hash = new Sha256();
    for (let at = 0; at < length; at += 7) hash.update(bytes.subarray(at, at + 7));
    assert.equal(hash.hex(), due);
  }
});

test("SHA-256 of more bytes than a signed number of 32 bits counts", () => {
  const seen = [];
  class Watched extends Sha256 {
    blocks(_, begin, end) {
      seen.push([begin, end]);
    }
  }
  new Watched().update(new Uint8Array(2 ** 31 + 70));
  assert.deepEqual(seen, [[0, 2 ** 31 + 64]]);
});

test("every float16 and bfloat16 survives widening and rounding", () => {
  for (const dtype of ["float16", "bfloat16"]) {
    const bits = Uint16Array.from({ length: 65536 }, (_, n) => n);
    const infinity = dtype === "float16" ? 0x7c00 : 0x7f80;
    const found = lotta.roundTo(lotta.widen(bits, dtype), dtype);
    const wrong = bits.filter((value) => (value & 0x7fff) <= infinity && found[value] !== value);
    assert.deepEqual(Array.from(wrong), []);
  }
});
