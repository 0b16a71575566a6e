/** The example files of spec/v1/vectors, each pack one test. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readDescriptor } from "../descriptor.js";
import { Pack, PackError, fromBlob, fromBytes, open, parse, plainSha256, sha256, stringify, verify } from "../lottapack.js";
import { summarise } from "../page/summary.js";
import { scaffoldPlace } from "../scaffolds.js";
import { fingerprintCheck } from "../verify.js";
import { packs } from "./vectors.js";

/** Everything that is wrong with a pack, as section, kind and place. `maxBytes`: what a model may declare. */
async function faults(bytes, maxBytes) {
  try {
    const { checks } = await verify(await open(fromBytes(bytes)), { maxBytes });
    const failed = checks.filter(({ status }) => status === "failed");
    return failed.map(({ what, where }) => ["contents", what, where]);
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    return error.problems.map(({ kind, where }) => [error.section, kind, where]);
  }
}

/** The descriptor that a page of the specification shows. */
function example(page) {
  const text = readFileSync(new URL(`../../v1/${page}.md`, import.meta.url), "utf8");
  const [, shown] = /^```json descriptor\n(.*?)^```$/ms.exec(text);
  return readDescriptor(new TextEncoder().encode(stringify(parse(new TextEncoder().encode(shown)))));
}

for (const { name, sidecar, bytes } of packs("invalid")) {
  test(`invalid/${name}`, async () => {
    assert.deepEqual(await faults(bytes, sidecar.allowed), [[sidecar.section, sidecar.kind, sidecar.where]]);
  });
}

for (const { name, sidecar, bytes } of packs("valid")) {
  test(`valid/${name}`, async () => {
    const pack = await open(fromBlob(new Blob([bytes])));
    const { parameters, rng } = pack.descriptor;
    const scaffolds = Object.entries(sidecar.scaffolds ?? {});
    assert.deepEqual([...rng.scaffolds.keys()].sort(), scaffolds.map(([scaffold]) => scaffold).sort());
    const recorded = [...parameters].filter(([, entry]) => entry.fingerprint !== undefined);
    assert.deepEqual(Object.fromEntries(recorded.map(([key, entry]) => [key, entry.fingerprint])), sidecar.fingerprints);

    const { ok, checks, sha256: digest } = await verify(pack);
    assert.ok(ok);
    assert.equal(digest, sha256(bytes));
    const drawn = checks.filter(({ what }) => what === "fingerprint");
    const due = rng.id === "torch-cpu" ? "skipped" : "ok";
    const places = recorded.flatMap(([key]) => [key, ...[...rng.scaffolds.keys()].map((one) => scaffoldPlace(one, key))]);
    assert.deepEqual(drawn.map(({ where, status }) => [where, status]), places.map((place) => [place, due]));

    const held = {};
    for (const key of pack.descriptor.files.keys()) held[key] = sha256(await pack.file(key));
    assert.deepEqual(held, sidecar.files ?? {});

    for (const [scaffold, { fingerprints, merged_sha256: merged }] of [["default", sidecar], ...scaffolds]) {
      for (const [key, digest] of Object.entries(merged)) {
        assert.equal(sha256(await pack.plain(key, scaffold)), digest, `${scaffold}: ${key}`);
      }
      if (scaffold !== "default") {
        assert.deepEqual(Object.fromEntries(rng.scaffolds.get(scaffold).fingerprints), fingerprints);
      }
    }
  });

  test(`valid/${name}: any range`, async () => {
    const pack = await open(fromBytes(bytes));
    if (pack.descriptor.rng.id === "torch-cpu") return;
    for (const key of Object.keys(sidecar.fingerprints)) {
      const whole = pack.backbone(key);
      const begin = Math.floor(whole.length / 3);
      const end = Math.ceil((2 * whole.length) / 3);
      assert.deepEqual(pack.backbone(key, BigInt(begin), end - begin), whole.slice(begin, end), key);
    }
  });
}

test("parameters and elements that a pack does not have are refused", async () => {
  const pack = await open(fromBytes(packs("valid").find(({ name }) => name === "every_role").bytes));
  const missing = { name: "UnsupportedError", message: /does not have a parameter "none"/ };
  assert.throws(() => pack.backbone("none"), missing);
  await assert.rejects(pack.plain("none"), missing);
  const stored = [...pack.descriptor.parameters].find(([, { role }]) => role === "stored")[0];
  assert.throws(() => pack.backbone(stored), { name: "UnsupportedError", message: /is stored, not generated/ });
  const [name, { shape }] = [...pack.descriptor.parameters].find(([, { fingerprint }]) => fingerprint);
  const count = Number(shape.reduce((product, size) => product * size, 1n));
  assert.equal(pack.backbone(name, BigInt(count)).length, 0);
  assert.equal(pack.backbone(name, 1, count - 1).length, count - 1);
  for (const [start, length] of [[0n, count + 1], [1n, count], [BigInt(count) + 1n, null], [-1n, 1], [0n, -1]]) {
    assert.throws(() => pack.backbone(name, start, length), { name: "RangeError", message: /are not all among them/ });
  }
});

test("a model is checked where as much is allowed as the page's button says", async () => {
  for (const name of ["vera", "every_role", "seeded_factors"]) {
    const pack = await open(fromBytes(packs("valid").find((one) => one.name === name).bytes));
    const { needed } = await summarise(pack);
    assert.ok((await verify(pack, { maxBytes: BigInt(needed) })).ok);
    await assert.rejects(verify(pack, { maxBytes: BigInt(needed) - 1n }), { name: "PackError", section: "limit" });
  }
});

test("a file that Node has read holds the same weights", async () => {
  for (const { name, sidecar, bytes } of packs("valid").filter(({ bytes }) => bytes.length < 100_000)) {
    const pack = await open(fromBytes(Buffer.from(bytes))); // whose slices are views
    for (const [key, digest] of Object.entries(sidecar.merged_sha256)) assert.equal(sha256(await pack.plain(key)), digest, `${name}: ${key}`);
  }
});

for (const page of ["descriptor", "torch_cpu"]) {
  test(`the example of ${page}.md`, () => {
    const { architecture, parameters } = example(page);
    assert.ok(architecture.class && parameters.size);
  });
}

test("a file that the pack does not have is refused", async () => {
  const pack = await open(fromBytes(packs("valid")[0].bytes));
  assert.throws(() => pack.file("vocab.json"), { name: "UnsupportedError", message: /does not contain the file "vocab\.json"/ });
});

/** A pack whose file holds no tensors. */
function ofDescriptor(descriptor) {
  return new Pack(fromBytes(new Uint8Array()), { descriptor, tensors: new Map(), dataStart: 0, digests: new Map(), tables: new Map() });
}

test("weights of torch-cpu are refused and named", async () => {
  const pack = ofDescriptor(example("torch_cpu"));
  assert.throws(() => pack.backbone("0.weight"), { name: "UnsupportedError", message: /^needs torch: PyTorch 2\.13\.0/ });
  const { status, detail } = await fingerprintCheck(pack, "0.weight", "0123456789abcdef");
  assert.deepEqual([status, detail.slice(0, 11)], ["skipped", "needs torch"]);
});

test("a scaffold that the pack does not have is refused, and those that it has are named", async () => {
  const { bytes } = packs("valid").find(({ name }) => name === "scaffolds");
  const pack = await open(fromBytes(bytes));
  const [other] = pack.descriptor.rng.scaffolds.keys();
  const message = new RegExp(`does not have a scaffold "none"; it has default, .*${other.replaceAll(".", "\\.")}`);
  assert.throws(() => pack.backbone("0.weight", 0n, null, "none"), { name: "UnsupportedError", message });
});

/** A pack without tensors whose descriptor is given as text. */
function packOf(text) {
  const metadata = { lottapack: text, "lottapack.sha256": sha256(new TextEncoder().encode(text)) };
  const header = new TextEncoder().encode(JSON.stringify({ __metadata__: metadata }));
  const bytes = new Uint8Array(8 + Math.ceil(header.length / 8) * 8).fill(32);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true);
  bytes.set(header, 8);
  return bytes;
}

const rest = '"lottapack":"1.1","parameters":{},"provenance":{},"rng":{"id":"philox4x32-10","seed":"000000000000002a","tables":{}}';
const many = 500_000;

test("a configuration with many keys is refused with the first of them", async () => {
  const architecture = `"class":"A","config":{"a":[{"_":0}${',{"_":0}'.repeat(40_000)}]},"family":"transformers"`;
  await assert.rejects(open(fromBytes(packOf(`{"architecture":{${architecture}},${rest}}`))), (error) => {
    assert.equal(error.problems.length, 1000);
    return error.problems[0].where === "architecture.config.a[0]._";
  });
});

for (const [name, architecture, where, count] of [
  ["children", `"class":"Sequential","config":{"children":[0${",0".repeat(many - 1)}]},"family":"torch.nn"`, ".children[0]", 1000],
  ["keys", `"class":"A","config":{"a":[{"_":0}${',{"_":0}'.repeat(many - 1)}]},"family":"transformers"`, "", 1],
  ["arguments", `"class":"a:A","config":{"a":[0${",0".repeat(many - 1)}]},"family":"python"`, ".a[9999]", 1],
]) {
  test(`half a million ${name} are refused in good time`, async () => {
    const started = process.cpuUsage().user;
    await assert.rejects(open(fromBytes(packOf(`{"architecture":{${architecture}},${rest}}`))), (error) => {
      assert.equal(error.name, "PackError");
      assert.equal(error.problems.length, count);
      assert.deepEqual(error.problems[0].where, `architecture.config${where}`);
      return error.message.length < 2000;
    });
    assert.ok(process.cpuUsage().user - started < 10e6);
  });
}

test("weights of several pieces have the digest of the whole; more than an array holds is unsupported", async () => {
  const entry = (role, fields) => ({ role, shape: [3n, 700_001n], dtype: "float16", ...fields });
  const seeded = { distribution: "sign1", scale: 0.5, fingerprint: "0" };
  const huge = { role: "constant", shape: [2n ** 33n], dtype: "int8", value: "07" };
  const parameters = new Map(Object.entries({ a: entry("constant", { value: "3c01" }), b: entry("seeded", seeded), huge }));
  const rng = { id: "philox4x32-10", seedText: "000000000000002a", tables: new Map(), scaffolds: new Map() };
  const pack = ofDescriptor({ parameters, rng, files: new Map() });
  for (const name of ["a", "b"]) assert.equal(await plainSha256(pack, name), sha256(await pack.plain(name)));
  await assert.rejects(pack.plain("huge"), { name: "UnsupportedError" });
});
