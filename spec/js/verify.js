/** Every check of a pack, each with its outcome. */

import { PackError, UnsupportedError } from "./errors.js";
import { DEFAULT_MAX_BYTES } from "./pack.js";
import { isGenerated } from "./parameters.js";
import { Sha256 } from "./sha256.js";
import { ITEM_SIZE, numel } from "./shapes.js";

const PIECE = 1 << 20;

/**
 * Check each tensor's SHA-256 and each generated parameter's fingerprint; weights are made piece by piece.
 *
 * Gives `{ok, checks, sha256}`: checks as `{what, where, status, detail}` with a status of ok, failed or skipped, and
 * the SHA-256 of the whole file. `progress(done, total)` counts bytes read and made; what it returns is awaited.
 * Throws PackError for a model over `maxBytes`, which bounds the work that a small file can ask for.
 */
export async function verify(pack, { maxBytes = DEFAULT_MAX_BYTES, progress = () => {} } = {}) {
  pack.checkLimit(maxBytes);
  const { parameters, version } = pack.descriptor;
  const generated = [...parameters].filter(([, entry]) => isGenerated(entry));
  const sizes = new Map(generated.map(([name, entry]) => [name, Number(numel(entry.shape)) * ITEM_SIZE.get(entry.dtype)]));
  let total = 2 * pack.source.size - pack.dataStart;
  sizes.forEach((size) => (total += size));
  let done = 0;
  const advance = (bytes) => progress((done += bytes), total);
  const checks = [{ what: "format", where: "header and descriptor", status: "ok", detail: `format ${version}` }];
  for (const [name, { begin, end }] of pack.tensors) {
    checks.push(await hashCheck(pack, name));
    await advance(end - begin);
  }
  for (const [name, entry] of generated) {
    const each = (count) => advance(count * ITEM_SIZE.get(entry.dtype));
    checks.push(await fingerprintCheck(pack, name, entry, each));
  }
  const sha256 = await fileSha256(pack.source, advance);
  return { ok: checks.every(({ status }) => status !== "failed"), checks, sha256 };
}

async function hashCheck(pack, name) {
  try {
    await pack.check(name);
    return { what: "sha256", where: name, status: "ok", detail: "" };
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    const [{ kind, message }] = error.problems;
    return { what: kind, where: name, status: "failed", detail: message };
  }
}

/** The check of a generated parameter; skipped where this reader cannot make it. */
export async function fingerprintCheck(pack, name, entry, progress) {
  const what = "fingerprint";
  try {
    const found = await pack.fingerprint(name, progress);
    if (found === entry.fingerprint) return { what, where: name, status: "ok", detail: "" };
    return { what, where: name, status: "failed", detail: `rebuilt ${found}, recorded ${entry.fingerprint}` };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { what, where: name, status: "skipped", detail: error.message };
  }
}

async function fileSha256(source, progress) {
  const hash = new Sha256();
  for (let at = 0; at < source.size; at += PIECE) {
    const piece = await source.read(at, Math.min(source.size, at + PIECE));
    hash.update(piece);
    await progress(piece.length);
  }
  return hash.hex();
}
