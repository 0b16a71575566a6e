/** Where the specification's vectors lie. */

import { readFileSync, readdirSync } from "node:fs";

export const VECTORS = new URL("../../v1/vectors/", import.meta.url);
const SUFFIX = ".lotta.safetensors";

/** A file of known answers, such as `elements`. */
export const answers = (name) => JSON.parse(readFileSync(new URL(`${name}.json`, VECTORS), "utf8"));

/** The packs in `files/<folder>`: name, bytes and sidecar of each. */
export function packs(folder) {
  const at = new URL(`files/${folder}/`, VECTORS);
  const names = readdirSync(at).filter((name) => name.endsWith(SUFFIX));
  return names.sort().map((file) => {
    const name = file.slice(0, -SUFFIX.length);
    const sidecar = JSON.parse(readFileSync(new URL(`${name}.json`, at), "utf8"));
    return { name, sidecar, bytes: new Uint8Array(readFileSync(new URL(file, at))) };
  });
}

/** Numbers from hexadecimal digits. */
export const words = (texts) => texts.map((text) => parseInt(text, 16));
