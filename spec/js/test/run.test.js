/** What the pages compute beside packs: images from drawings, tokens from logits, addresses, numbers in three digits. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { roundTo, widen } from "../lottapack.js";
import { queryOf, requested } from "../page/addresses.js";
import { number, percent } from "../page/dom.js";
import { preprocess, softmax } from "../run/images.js";
import { digest, sha256 } from "../sha256.js";
import { pick } from "../run/writer.js";

const PAGE = "http://127.0.0.1:8000/web/run.html";

test("all float16 numbers widen to themselves", () => {
  const bits = Uint16Array.from({ length: 2 ** 16 }, (_, n) => n);
  for (const length of [2 ** 16, 100]) {
    const values = widen(bits.subarray(0, length), "float16");
    for (let n = 0; n < length; n += 1) {
      const [exponent, fraction, sign] = [(n >> 10) & 31, n & 1023, n >> 15 ? -1 : 1];
      const due = exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
      assert.ok(Object.is(values[n], due), `${n}: ${values[n]}, not ${due}`);
    }
  }
  const back = roundTo(widen(bits, "float16"), "float16");
  assert.ok(bits.every((value, n) => back[n] === value || (value & 0x7fff) > 0x7c00));
});

test("bfloat16 numbers widen to themselves", () => {
  const bits = Uint16Array.from({ length: 2 ** 16 }, (_, n) => n);
  const wide = new Uint32Array(widen(bits, "bfloat16").buffer);
  assert.ok(bits.every((value, n) => wide[n] === value * 2 ** 16));
});

test("the engine's SHA-256 is this one's", async () => {
  for (const size of [0, 55, 64, 4095, 4096, 100_000]) {
    const bytes = Uint8Array.from({ length: size }, (_, n) => n * 7);
    assert.equal(await digest(bytes), sha256(bytes));
  }
});

test("a drawing is cropped and fills a small image", () => {
  const ink = new Float32Array(40 * 40);
  for (let row = 10; row < 26; row += 1) for (let column = 4; column < 12; column += 1) ink[row * 40 + column] = 1;
  const image = preprocess(ink, 40, 8); // 16 high and 8 wide, so that a pixel of the image is two of the drawing
  const rows = Array.from({ length: 8 }, (_, row) => [...image.slice(8 * row, 8 * row + 8)]);
  assert.deepEqual(rows, Array(8).fill([0, 0, 1, 1, 1, 1, 0, 0]));
});

test("a drawing has a margin in a larger image, and lies around its centre of mass", () => {
  const ink = new Float32Array(40 * 40).fill(0);
  for (let row = 0; row < 20; row += 1) for (let column = 0; column < 20; column += 1) ink[row * 40 + column] = 1;
  const image = preprocess(ink, 40, 28);
  const lit = [...image].flatMap((level, index) => (level > 0 ? [index] : []));
  assert.deepEqual([Math.min(...lit), Math.max(...lit), lit.length], [4 * 28 + 4, 23 * 28 + 23, 400]);
});

test("an empty drawing is an empty image", () => {
  assert.ok(preprocess(new Float32Array(100), 10, 8).every((level) => level === 0));
});

test("shares add up to 1, however large the logits", () => {
  assert.deepEqual(softmax([1000, 1000]), [0.5, 0.5]);
});

test("without a temperature the likeliest token is taken, with one each by its share", () => {
  const logits = Float32Array.from([0, Math.log(3), -1000]);
  assert.equal(pick(logits, 0, 0.99), 1);
  assert.deepEqual([0.2, 0.3, 0.999].map((chance) => pick(logits, 1, chance)), [0, 1, 1]);
  assert.throws(() => pick(Float32Array.from([NaN, NaN]), 0, 0), { name: "RunError", message: "the model answers NaN" });
});

test("addresses of the page's own server are read", () => {
  const one = requested("?model=anna/digits&revision=v1.0", PAGE);
  assert.deepEqual(one, { pack: "http://127.0.0.1:8000/anna/digits/resolve/v1.0/model.lotta.safetensors", graph: null });
  assert.deepEqual(requested("?pack=a.lotta.safetensors&graph=/m.onnx", PAGE), {
    pack: "http://127.0.0.1:8000/web/a.lotta.safetensors",
    graph: "http://127.0.0.1:8000/m.onnx",
  });
  assert.equal(requested("?model=anna/digits&revision=refs/pr/1", PAGE).pack.split("/")[6], "refs%2Fpr%2F1");
  assert.equal(requested("", PAGE), null);
});

for (const query of ["?pack=http://example.org/a", "?pack=//example.org/a", "?pack=data:,a", "?pack=a&graph=https://127.0.0.1:8000/", "?model=a/b/c", "?model=../b", "?model=", "?pack=http://"]) {
  test(`no other address is read: ${query}`, () => {
    assert.throws(() => requested(query, PAGE), { name: "RunError", section: "address" });
  });
}

test("what a person writes is a model's name or a path", () => {
  assert.equal(queryOf(" anna/digits "), "?model=anna/digits");
  assert.equal(queryOf("/packs/a b.lotta.safetensors"), "?pack=%2Fpacks%2Fa%20b.lotta.safetensors");
});

test("numbers of any size are short", () => {
  assert.deepEqual([1e300, 1234567, 0.000123456, -2.5, Infinity].map(number), ["1e+300", "1,234,567", "0.000123", "-2.5", "Infinity"]);
  assert.deepEqual([percent(1, 3), percent(1, 1)], ["33.3%", "100%"]);
});
