/** The decompressor against the library zlib, on random streams, whole and damaged. */

import assert from "node:assert/strict";
import { test } from "node:test";
import zlib from "node:zlib";

import { StreamFault, inflate } from "../inflate.js";

/** Numbers below 2**32 that are the same in each run. */
function* numbers(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield (state ^ (state >>> 15)) >>> 0;
  }
}

function* streams(count, seed) {
  const chance = numbers(seed);
  const below = (limit) => chance.next().value % limit;
  for (let i = 0; i < count; i += 1) {
    const letters = 1 + below(below(3) ? 12 : 256);
    const data = Uint8Array.from({ length: below(below(8) ? 400 : 70000) }, () => below(letters));
    const options = { level: below(10), strategy: below(5), windowBits: 9 + below(7), memLevel: 1 + below(9) };
    yield { data, stream: new Uint8Array(zlib.deflateSync(data, options)), below };
  }
}

test("inflate: streams of every level and strategy", () => {
  for (const { data, stream } of streams(200, 1)) {
    assert.deepEqual(inflate(stream, data.length), data);
    assert.throws(() => inflate(stream, data.length + 1), StreamFault);
    if (data.length) assert.throws(() => inflate(stream, data.length - 1), StreamFault);
  }
});

/** What zlib makes of a stream that nothing may follow; null where it refuses. */
function oracle(stream) {
  try {
    const { buffer, engine } = zlib.inflateSync(stream, { info: true });
    return engine.bytesWritten === stream.length ? buffer : null;
  } catch {
    return null;
  }
}

test("inflate: damaged streams are refused where zlib refuses them", () => {
  let [refused, passed] = [0, 0];
  for (const { stream, below } of streams(600, 2)) {
    const damaged = Uint8Array.from([...stream.slice(0, below(stream.length + 1)), ...stream.slice(below(stream.length))]);
    const place = below(stream.length);
    const flipped = stream.slice();
    flipped[place] ^= 1 << below(8);
    for (const bytes of [damaged, flipped, Uint8Array.from([...stream, below(256)]), stream.slice(0, place)]) {
      const due = oracle(bytes);
      try {
        const found = inflate(bytes, due?.length ?? 1 << 17);
        assert.ok(due !== null && Buffer.compare(due, found) === 0);
        passed += 1;
      } catch (fault) {
        if (!(fault instanceof StreamFault)) throw fault;
        assert.equal(due, null, fault.message);
        refused += 1;
      }
    }
  }
  assert.ok(refused > 2000 && passed > 4, `${refused} refused, ${passed} passed`);
});
