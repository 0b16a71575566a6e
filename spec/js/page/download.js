/** Downloads from the page's own server, kept for the next visit without a network. */

import { pathOf } from "./addresses.js";
import { RunError } from "./errors.js";

const KEPT = "lottapack-packs-1";
const MOST = 2 ** 28;

/** The bytes of a file at an address. `started(size)`: its size, as soon as it is known; `progress(share)`. */
export async function download(address, { progress = () => {}, started = () => {} } = {}) {
  const where = pathOf(address);
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin" });
  } catch (fault) {
    answer = await kept(address);
    if (!answer) throw new RunError("address", where, `the server cannot be reached (${fault.message})`, "Go online, or drop the file here.");
  }
  if (!answer.ok) {
    const hint = [401, 403, 404].includes(answer.status)
      ? "Check the address. A private model: download it with the library and drop it here."
      : "Try again later, or drop the file here.";
    throw new RunError("address", where, `the server answers ${answer.status}`, hint);
  }
  const size = Number(answer.headers.get("content-length")) || 0;
  started(size);
  const pieces = [];
  let done = 0;
  try {
    for (const reader = answer.body.getReader(); ; ) {
      const { value, done: last } = await reader.read();
      if (last) break;
      pieces.push(value);
      progress((done += value.length) / (size || done));
    }
  } catch (fault) {
    throw new RunError("address", where, `the download ended early, after ${done} bytes (${fault.message})`, "Try again.");
  }
  const bytes = room(done);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** The bytes of a file that was dropped. */
export async function readFile(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const shared = room(bytes.length);
  if (shared.buffer instanceof ArrayBuffer) return bytes;
  shared.set(bytes);
  return shared;
}

/** Zeros in memory that workers share, where the browser allows it. */
function room(size) {
  return new Uint8Array(globalThis.crossOriginIsolated ? new SharedArrayBuffer(size) : size);
}

async function kept(address) {
  return globalThis.caches && (await (await caches.open(KEPT)).match(address));
}

/** Keep files for a visit without a network, in place of those kept before. `files`: pairs of an address and bytes. */
export async function keep(files) {
  if (!globalThis.caches || files.some(([, { length }]) => length > MOST)) return;
  await caches.delete(KEPT);
  const cache = await caches.open(KEPT);
  for (const [address, bytes] of files) {
    await cache.put(address, new Response(bytes.slice(), { headers: { "content-length": String(bytes.length) } }));
  }
}
