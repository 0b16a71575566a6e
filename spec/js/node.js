/**
 * Packs in files, for Node; and a command that checks them:
 *
 *     node spec/js/node.js [--plain] PACK...
 *
 * It writes one line of JSON for each pack: the result of verify(), or the refusal as `section`, `problems` and `hint`;
 * with --plain also the SHA-256 of each parameter of the plain, merged model, on each scaffold; null for one that cannot be
 * made here, and then `unsupported` says why. The exit code is 1 if a pack is not valid.
 */

import { closeSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { DEFAULT, PackError, UnsupportedError, open, plainSha256, verify } from "./lottapack.js";

const MOST_AT_ONCE = 2 ** 30; // bytes of one call

/** A source of an open file; close() it when done. */
export function fromFile(path) {
  const file = openSync(path, "r");
  const { size } = fstatSync(file);
  const read = (begin, end) => {
    const bytes = new Uint8Array(end - begin);
    let done = 0;
    while (done < bytes.length) {
      const count = readSync(file, bytes, done, Math.min(bytes.length - done, MOST_AT_ONCE), begin + done);
      if (!count) break; // the file ended early: the hash will tell
      done += count;
    }
    return bytes.subarray(0, done);
  };
  return { size, read, close: () => closeSync(file) };
}

async function report(path, plain) {
  const source = fromFile(path);
  try {
    const pack = await open(source);
    const result = { path, ...(await verify(pack)) };
    if (!plain) return result;
    const digests = Object.create(null); // in which even __proto__ is a key like others
    let unsupported;
    for (const scaffold of [DEFAULT, ...pack.descriptor.rng.scaffolds.keys()]) {
      digests[scaffold] = Object.create(null);
      const known = new Map();
      for (const name of pack.descriptor.parameters.keys()) {
        const owner = pack.resolve(name);
        try {
          if (!known.has(owner)) known.set(owner, await plainSha256(pack, owner, scaffold));
        } catch (error) {
          if (!(error instanceof UnsupportedError)) throw error;
          known.set(owner, null);
          unsupported = error.message;
        }
        digests[scaffold][name] = known.get(owner);
      }
    }
    return { ...result, plain: digests, unsupported };
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    const { section, problems, hint } = error;
    return { path, ok: false, section, problems, hint };
  } finally {
    source.close();
  }
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const words = process.argv.slice(2);
  const plain = words.includes("--plain");
  for (const path of words.filter((word) => word !== "--plain")) {
    const result = await report(path, plain);
    if (!result.ok) process.exitCode = 1;
    console.log(JSON.stringify(result));
  }
}
