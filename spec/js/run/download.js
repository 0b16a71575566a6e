/** Downloads from the page's own server, kept for the next visit without a network. */

import { RunError } from "./errors.js";

const KEPT = "lottapack-packs-1";
const MOST = 2 ** 28;

/** A file at an address, as a Blob. `started(size)`: its size, as soon as it is known; `progress(share)`. */
export async function download(address, { progress = () => {}, started = () => {} } = {}) {
  const where = decodeURI(new URL(address).pathname);
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
  return new Blob(pieces);
}

async function kept(address) {
  return globalThis.caches && (await (await caches.open(KEPT)).match(address));
}

/** Keep files for a visit without a network, in place of those kept before. `blobs`: pairs of an address and a Blob. */
export async function keep(blobs) {
  if (!globalThis.caches || blobs.some(([, blob]) => blob.size > MOST)) return;
  await caches.delete(KEPT);
  const cache = await caches.open(KEPT);
  for (const [address, blob] of blobs) {
    await cache.put(address, new Response(blob, { headers: { "content-length": String(blob.size) } }));
  }
}
