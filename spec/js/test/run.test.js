/** What the pages compute beside packs: images from drawings, tokens from logits, addresses, numbers in three digits. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { roundTo, widen } from "../lottapack.js";
import { pathOf, queryOf, requested } from "../page/addresses.js";
import { number, percent } from "../page/dom.js";
import { preprocess, softmax } from "../run/images.js";
import { kindOf } from "../run/kind.js";
import { digest, sha256 } from "../sha256.js";
import { feedsFrom, numbersOf } from "../run/tensors.js";
import { endsOf, pick, positionsOf, write } from "../run/writer.js";

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
  for (const odd of [[NaN, NaN], [1, NaN], [1, Infinity], [-Infinity, -Infinity]]) {
    for (const temperature of [0, 1]) assert.throws(() => pick(Float32Array.from(odd), temperature, 0.5), { name: "RunError" });
  }
});

const ORT = { Tensor: class { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } } };

/** A decoder whose next token is the last one and 1 more; it remembers what it was fed. */
function counting() {
  const fed = [];
  const run = async (feeds) => {
    fed.push(feeds);
    const ids = [...feeds.input_ids.data].map(Number);
    const data = new Float32Array(10 * ids.length);
    ids.forEach((id, row) => (data[10 * row + ((id + 1) % 10)] = 1));
    const kept = feeds.past.dims[2] + ids.length;
    return { logits: { type: "float32", data, dims: [1, ids.length, 10] }, present: { dims: [1, 1, kept, 1] } };
  };
  const past = [{ input: "past", output: "present", dtype: "float32", dims: [1, 1, 0, 1] }];
  return { model: { ort: ORT, session: { run }, spec: { mask: "mask", positions: "positions", past } }, fed };
}

async function written(model, ids, options) {
  const found = [];
  for await (const { id } of write(model, ids, { temperature: 0, ends: new Set(), stopped: () => false, ...options })) found.push(id);
  return found;
}

test("tokens are written one by one over a cache, with the mask and the positions of each", async () => {
  const { model, fed } = counting();
  assert.deepEqual(await written(model, [1, 2], { most: 3 }), [3, 4, 5]);
  const seen = fed.map(({ input_ids: ids, mask, positions, past }) => [ids, mask, positions].map(({ data }) => [...data].map(Number)).concat(past.dims[2]));
  assert.deepEqual(seen, [
    [[1, 2], [1, 1], [0, 1], 0],
    [[3], [1, 1, 1], [2], 2],
    [[4], [1, 1, 1, 1], [3], 3],
  ]);
});

test("a text ends with a token that ends it, and when it is stopped", async () => {
  assert.deepEqual(await written(counting().model, [1], { most: 9, ends: new Set([4, 7]) }), [2, 3, 4]);
  let asked = 0;
  assert.deepEqual(await written(counting().model, [1], { most: 9, stopped: () => ++asked === 2 }), [2, 3]);
});

test("tokens that end a text are those of the files, else of the configuration, and the tokenizer's", () => {
  const of = (value) => new Map([["generation_config.json", new TextEncoder().encode(JSON.stringify(value))]]);
  const config = new Map([["eos_token_id", 5n]]);
  const tokenizer = { config: { eos_token: { content: "</s>" } }, token_to_id: (token) => (token === "</s>" ? 2 : undefined) };
  assert.deepEqual([...endsOf(of({ eos_token_id: [3, 4] }), config, null)], [3, 4]);
  assert.deepEqual([...endsOf(of({}), config, tokenizer)], [5, 2]);
  assert.deepEqual([...endsOf(new Map(), null, null)], []);
});

test("a configuration says how many positions a model has", () => {
  assert.equal(positionsOf(new Map([["max_position_embeddings", 64n]])), 64);
  assert.equal(positionsOf(new Map([["n_positions", 32n]])), 32);
  for (const config of [null, new Map(), new Map([["max_position_embeddings", -1n]])]) assert.equal(positionsOf(config), Infinity);
});

test("inputs of whole numbers are refused rather than changed", () => {
  const inputs = (dtype) => [{ name: "x", dtype }];
  const feed = (dtype, data) => [...feedsFrom(ORT, inputs(dtype), { x: { dims: [data.length], data } }).x.data];
  assert.deepEqual(feed("uint8", [0, 255]), [0, 255]);
  assert.deepEqual(feed("int64", [-1, true]), [-1n, 1n]);
  assert.deepEqual(feed("bool", [true, 0]), [1, 0]);
  assert.deepEqual(feed("float32", [0.5]), [0.5]);
  for (const [dtype, value] of [["uint8", 256], ["uint8", -1], ["int8", 128], ["int32", 1.5], ["int32", 2 ** 31], ["int64", 0.5], ["bool", 2]]) {
    assert.throws(() => feed(dtype, [0, value]), { name: "RunError", message: `${value} is not a whole number that fits in ${dtype}` });
    assert.throws(() => feedsFrom(ORT, inputs(dtype), { x: { dims: [2], data: value } }), { name: "RunError" });
  }
});

test("inputs of any depth are refused in time", () => {
  let deep = 0;
  for (let level = 0; level < 100_000; level += 1) deep = [deep];
  for (const value of [deep, { dims: [1], data: deep }, { dims: new Array(65).fill(1), data: 0 }]) {
    assert.throws(() => feedsFrom(ORT, [{ name: "x", dtype: "float32" }], { x: value }), { name: "RunError" });
  }
  assert.deepEqual(feedsFrom(ORT, [{ name: "x", dtype: "float32" }], { x: [[[1]], [[2]]] }).x.dims, [2, 1, 1]);
});

test("a decoder with thousands of layers is known in time", () => {
  const layers = Array.from({ length: 5000 }, (_, layer) => `${layer}.key`);
  const cache = (begin) => layers.map((name) => ({ name: `${begin}.${name}`, dtype: "float32", dims: ["b", 2, "p", 4] }));
  const inputs = [{ name: "input_ids", dtype: "int64", dims: ["b", "s"] }, ...cache("past_key_values")];
  const logits = { name: "logits", dtype: "float32", dims: ["b", "s", 10] };
  for (const begin of ["present", "output.past_key_values"]) {
    const began = performance.now();
    const found = kindOf({ inputs, outputs: [logits, ...cache(begin)] });
    assert.ok(performance.now() - began < 2000); // some milliseconds on a quiet machine
    assert.deepEqual([found.kind, found.past.length, found.past[7].output], ["text", 5000, `${begin}.7.key`]);
  }
  const same = [...cache("past_key_values")];
  assert.equal(kindOf({ inputs, outputs: [logits, ...same], nodes: [], weights: new Map() }).kind, "other");
});

test("numbers of float16 are read as such, whatever array the runtime has them in", () => {
  const data = roundTo(Float32Array.from([0.5, -2, 65504]), "float16");
  assert.deepEqual([...numbersOf({ type: "float16", data })], [0.5, -2, 65504]);
  assert.deepEqual([...numbersOf({ type: "float16", data: data.subarray(1) })], [-2, 65504]);
});

test("addresses of the page's own server are read", () => {
  const one = requested("?model=anna/digits&revision=v1.0", PAGE);
  assert.deepEqual(one, { name: "anna/digits@v1.0", pack: "http://127.0.0.1:8000/anna/digits/resolve/v1.0/model.lotta.safetensors", graph: null });
  assert.deepEqual(requested("?pack=a.lotta.safetensors&graph=/m.onnx", PAGE), {
    name: "/web/a.lotta.safetensors",
    pack: "http://127.0.0.1:8000/web/a.lotta.safetensors",
    graph: "http://127.0.0.1:8000/m.onnx",
  });
  assert.equal(requested("?model=anna/digits&revision=refs/pr/1", PAGE).pack.split("/")[6], "refs%2Fpr%2F1");
  assert.equal(requested("?model=anna/digits", PAGE).name, "anna/digits");
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

test("a path is shown as a person writes it, or as it is", () => {
  assert.deepEqual(["/a%20b", "/100%"].map((path) => pathOf(`http://127.0.0.1${path}`)), ["/a b", "/100%"]);
});

test("addresses that only look like the page's own are refused", () => {
  const odd = [
    "?model=a/b&revision=..", "?model=a/b&revision=%2e", "?model=..%2f..", "?model=a/b%0a", "?pack=//evil/x", "?pack=\\\\evil\\x",
    "?pack=javascript:1", "?pack=data:,x", "?pack=blob:http://127.0.0.1:8000/x", "?pack=file:///etc/passwd", "?pack=http://127.0.0.1:8001/x",
    "?pack=http://user@127.0.0.1:8000/x", "?pack=/a&graph=//evil/x", "?model=a/b&graph=https://evil/x", "?model=",
  ];
  for (const query of odd) assert.throws(() => requested(query, PAGE), { name: "RunError" }, query);
});

test("numbers of any size are short", () => {
  assert.deepEqual([1e300, 1234567, 0.000123456, -2.5, Infinity].map(number), ["1e+300", "1,234,567", "0.000123", "-2.5", "Infinity"]);
  assert.deepEqual([percent(1, 3), percent(1, 1)], ["33.3%", "100%"]);
});
