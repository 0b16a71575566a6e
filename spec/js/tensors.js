/** Tensors of a file: read, checked and decoded. */

import { VALUE } from "./agreement.js";
import { CodingFault, decodeParameter, owned } from "./codings.js";
import { checkArray } from "./digests.js";
import { PackError, problem } from "./errors.js";
import { Sha256, digest } from "./sha256.js";

export const AGAIN = "Download the file again from its source.";

const PIECE = 1 << 20; // bytes of a step
const WHOLE = 1 << 26; // bytes of a tensor that is hashed at once

/** `source`: see container.js; `dataStart`: where the tensors begin; `digests`: the recorded SHA-256 by a tensor's name. */
export class Tensors {
  constructor(source, dataStart, digests) {
    Object.assign(this, { source, dataStart, digests });
  }

  /** The bytes of a tensor of the file, given by its record: copied out of it and checked. */
  async read(info) {
    const { name, begin, end, dtype } = info;
    const bytes = owned(await this.source.read(this.dataStart + begin, this.dataStart + end));
    compare(name, await digest(bytes), this.digests.get(name), "its SHA-256 is");
    refuseOdd(name, dtype, bytes);
    return bytes;
  }

  /** Check a tensor's SHA-256 in pieces, without keeping its bytes. */
  async check(info) {
    const { name, begin, end, dtype } = info;
    if (end - begin <= WHOLE) {
      await this.read(info);
      return;
    }
    const hash = new Sha256();
    let odd = null;
    for (let at = begin; at < end; at += PIECE) {
      const piece = await this.source.read(this.dataStart + at, this.dataStart + Math.min(end, at + PIECE));
      hash.update(piece);
      if (dtype === "bool") odd ??= piece.find((byte) => byte > 1);
    }
    compare(name, hash.hex(), this.digests.get(name), "its SHA-256 is");
    refuseOdd(name, dtype, odd ? [odd] : []);
  }

  /** The bytes of an entry. `held`: the records of its tensors by part; `name`: its name in errors. */
  async stored(name, entry, held) {
    if (held.has(VALUE)) return this.read(held.get(VALUE));
    checkArray(entry);
    const parts = {};
    for (const [part, info] of held) parts[part.split(".").at(-1)] = await this.read(info);
    let bytes;
    try {
      bytes = decodeParameter(entry, parts);
    } catch (fault) {
      if (!(fault instanceof CodingFault)) throw fault;
      const due = [...held].find(([part]) => part.split(".").at(-1) === fault.part);
      const where = due ? due[1].name : name;
      const hint = "The file was changed, or its writer has a fault. Get another copy, or pack the model again.";
      throw new PackError("contents", [problem("coding", where, `${fault.message} (${entry.coding.id})`)], hint);
    }
    compare(name, await digest(bytes), entry.sha256, "decodes to the SHA-256");
    refuseOdd(name, entry.dtype, bytes);
    return bytes;
  }
}

/** Refuse a SHA-256 other than the recorded one. `what`: words before it. */
export function compare(name, digest, recorded, what) {
  if (digest === recorded) return;
  throw new PackError("contents", [problem("sha256", name, `${what} ${digest}, recorded ${recorded}`)], AGAIN);
}

function refuseOdd(name, dtype, bytes) {
  if (dtype !== "bool" || !bytes.some((byte) => byte > 1)) return;
  throw new PackError("contents", [problem("bool", name, "contains bytes other than 0 and 1")], AGAIN);
}
