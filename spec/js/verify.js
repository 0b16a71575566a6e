/** All checks of a pack, each with its outcome. */

import { adapterEntries, expectedParts, expectedTensors } from "./agreement.js";
import { PackError, UnsupportedError } from "./errors.js";
import { filePlace, fileTensor } from "./files.js";
import { DEFAULT_MAX_BYTES } from "./pack.js";
import { isGenerated } from "./values.js";
import { DEFAULT, scaffoldPlace } from "./scaffolds.js";
import { Sha256, digest } from "./sha256.js";
import { ITEM_SIZE, numel } from "./shapes.js";

const PIECE = 1 << 20;
const WHOLE = 1 << 26; // bytes of a file that is hashed at once

/**
 * Check each tensor's SHA-256, the value of each coded tensor, and on every scaffold each generated parameter's
 * fingerprint; weights are generated in pieces.
 *
 * Returns `{ok, checks, sha256}`: checks as `{what, where, status, detail}` with a status of ok, failed or skipped, and
 * the SHA-256 of the whole file. `progress(done, total)` counts bytes read and generated; its result is awaited.
 * Throws PackError for a model over `maxBytes`, which limits the work that a small file can cause.
 */
export async function verify(pack, { maxBytes = DEFAULT_MAX_BYTES, progress = () => {} } = {}) {
  pack.checkLimit(maxBytes);
  const { files, parameters, rng, version } = pack.descriptor;
  const generated = [...parameters].filter(([, entry]) => isGenerated(entry));
  const of = (entries, place, parts, read) =>
    [...entries].filter(([, entry]) => entry.coding).map(([name, entry]) => [place(name), entry, parts(name, entry), () => read(name)]);
  const inFile = (name, entry) => [...expectedParts(fileTensor(name), entry)].map((due) => pack.tensors.get(due.name));
  const coded = [
    ...of(files, filePlace, inFile, (name) => pack.file(name)),
    ...of(parameters, (name) => name, (name) => [...pack.parts(name).values()], (name) => pack.readParameter(name)),
    ...codedAdapters(pack),
  ];
  const size = ([, { shape, dtype }]) => Number(numel(shape)) * ITEM_SIZE.get(dtype);
  const add = (sum, one) => sum + size(one);
  const drawn = generated.reduce(add, 0) * (1 + rng.scaffolds.size);
  const total = 2 * pack.source.size - pack.dataStart + coded.reduce(add, 0) + drawn;
  let done = 0;
  const advance = (bytes) => progress((done += bytes), total);
  const checks = [{ what: "format", where: "header and descriptor", status: "ok", detail: `format ${version}` }];
  const unchecked = new Map(listed(pack.descriptor).map(([what, where]) => [JSON.stringify([what, where]), [what, where]]));
  const note = (what, where, check) => {
    unchecked.delete(JSON.stringify([what, where]));
    checks.push(check);
  };
  for (const [name, info] of pack.tensors) {
    note("sha256", name, await contentCheck("sha256", name, () => pack.data.check(info)));
    await advance(info.end - info.begin);
  }
  const damaged = new Set(checks.filter(({ status }) => status === "failed").map(({ where }) => where));
  for (const [name, entry, held, read] of coded) {
    const lost = held.find((info) => damaged.has(info.name));
    const detail = lost && `${lost.name} is damaged, so it cannot be decoded`;
    const skipped = { what: "coding", where: name, status: "skipped", detail };
    note("coding", name, lost ? skipped : await contentCheck("coding", name, read));
    await advance(size([name, entry]));
  }
  for (const [name, entry] of generated) {
    const each = (count) => advance(count * ITEM_SIZE.get(entry.dtype));
    note("fingerprint", name, await fingerprintCheck(pack, name, entry.fingerprint, each));
    for (const [scaffold, { fingerprints }] of rng.scaffolds) {
      const check = await fingerprintCheck(pack, name, fingerprints.get(name), each, scaffold);
      note("fingerprint", scaffoldPlace(scaffold, name), check);
    }
  }
  for (const [what, where] of unchecked.values()) {
    checks.push({ what, where, status: "failed", detail: "the descriptor lists it, and nothing checked it" });
  }
  const sha256 = await fileSha256(pack.source, advance);
  return { ok: checks.every(({ status }) => status !== "failed"), checks, sha256 };
}

/** Coded files, like the other coded tensors: name, entry, tensors in the file, and how to read it. */
function* codedAdapters(pack) {
  for (const [name, entry] of pack.descriptor.parameters) {
    if (entry.role !== "adapted") continue;
    for (const [part, tensor] of adapterEntries(name, entry)) {
      if (!tensor.coding) continue;
      const held = [...pack.parts(name)].filter(([key]) => key.startsWith(`${part}.`)).map(([, info]) => info);
      yield [tensor.name, tensor, held, () => pack.readAdapter(name, part, tensor)];
    }
  }
}

/** All items with a hash in the descriptor, as pairs of what and where. */
function listed(descriptor) {
  const found = [...expectedTensors(descriptor)].map(({ name }) => ["sha256", name]);
  for (const [name, { coding }] of descriptor.files) if (coding) found.push(["coding", filePlace(name)]);
  for (const [name, entry] of descriptor.parameters) {
    if (entry.coding) found.push(["coding", name]);
    if (entry.role === "adapted") {
      for (const { name: part, coding } of adapterEntries(name, entry).values()) if (coding) found.push(["coding", part]);
    }
    if (!isGenerated(entry)) continue;
    found.push(["fingerprint", name]);
    for (const scaffold of descriptor.rng.scaffolds.keys()) found.push(["fingerprint", scaffoldPlace(scaffold, name)]);
  }
  return found;
}

async function contentCheck(what, name, check) {
  try {
    await check();
    return { what, where: name, status: "ok", detail: "" };
  } catch (error) {
    if (error instanceof UnsupportedError) return { what, where: name, status: "skipped", detail: error.message };
    if (!(error instanceof PackError)) throw error;
    const [{ kind, where, message }] = error.problems;
    return { what: kind, where, status: "failed", detail: message };
  }
}

/** The check of a generated parameter; skipped if this reader cannot generate it. */
export async function fingerprintCheck(pack, name, recorded, progress, scaffold = DEFAULT) {
  const what = "fingerprint";
  const where = scaffold === DEFAULT ? name : scaffoldPlace(scaffold, name);
  try {
    const found = await pack.fingerprint(name, progress, scaffold);
    if (found === recorded) return { what, where, status: "ok", detail: "" };
    return { what, where, status: "failed", detail: `rebuilt ${found}, recorded ${recorded}` };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { what, where, status: "skipped", detail: error.message };
  }
}

async function fileSha256(source, progress) {
  if (source.size <= WHOLE) {
    const found = await digest(await source.read(0, source.size));
    await progress(source.size);
    return found;
  }
  const hash = new Sha256();
  for (let at = 0; at < source.size; at += PIECE) {
    const piece = await source.read(at, Math.min(source.size, at + PIECE));
    hash.update(piece);
    await progress(piece.length);
  }
  return hash.hex();
}
