/** The example files of spec/v1/vectors, each pack one test. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { readDescriptor } from "../descriptor.js";
import { Pack, PackError, fromBlob, fromBytes, open, parse, sha256, stringify, verify } from "../lottapack.js";
import { fingerprintCheck } from "../verify.js";
import { packs } from "./vectors.js";

/** Everything that is wrong with a pack, as section, kind and place. */
async function faults(bytes) {
  try {
    const { checks } = await verify(await open(fromBytes(bytes)));
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
    assert.deepEqual(await faults(bytes), [[sidecar.section, sidecar.kind, sidecar.where]]);
  });
}

for (const { name, sidecar, bytes } of packs("valid")) {
  test(`valid/${name}`, async () => {
    const pack = await open(fromBlob(new Blob([bytes])));
    const { parameters, rng } = pack.descriptor;
    const recorded = [...parameters].filter(([, entry]) => entry.fingerprint !== undefined);
    assert.deepEqual(Object.fromEntries(recorded.map(([key, entry]) => [key, entry.fingerprint])), sidecar.fingerprints);

    const { ok, checks, sha256: digest } = await verify(pack);
    assert.ok(ok);
    assert.equal(digest, sha256(bytes));
    const drawn = checks.filter(({ what }) => what === "fingerprint");
    const due = rng.id === "torch-cpu" ? "skipped" : "ok";
    assert.deepEqual(drawn.map(({ where, status }) => [where, status]), recorded.map(([key]) => [key, due]));

    for (const [key, digest] of Object.entries(sidecar.merged_sha256)) {
      assert.equal(sha256(await pack.plain(key)), digest, key);
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

for (const page of ["descriptor", "torch_cpu"]) {
  test(`the example of ${page}.md`, () => {
    const { architecture, parameters } = example(page);
    assert.ok(architecture.class && parameters.size);
  });
}

test("weights of torch-cpu are refused and named", async () => {
  const pack = new Pack(fromBytes(new Uint8Array()), { tensors: new Map(), dataStart: 0 }, example("torch_cpu"));
  assert.throws(() => pack.backbone("0.weight"), { name: "UnsupportedError", message: /^needs torch: PyTorch 2\.13\.0/ });
  const { status, detail } = await fingerprintCheck(pack, "0.weight", pack.descriptor.parameters.get("0.weight"));
  assert.deepEqual([status, detail.slice(0, 11)], ["skipped", "needs torch"]);
});
