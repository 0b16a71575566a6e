/** SHA-256 of the weights of the plain model, piece by piece where a weight may be larger than an array of this engine. */

import { UnsupportedError } from "./errors.js";
import { DEFAULT } from "./scaffolds.js";
import { Sha256, sha256 } from "./sha256.js";
import { ITEM_SIZE, numel } from "./shapes.js";

const PIECE = 1 << 20;
const MOST_OF_AN_ARRAY = 2n ** 32n; // bytes

/** The SHA-256 of `pack.plain(name, scaffold)`. Throws UnsupportedError for a weight that can only be made as a whole. */
export async function plainSha256(pack, name, scaffold = DEFAULT) {
  const owner = pack.resolve(name);
  const entry = pack.descriptor.parameters.get(owner);
  const count = numel(entry.shape);
  if (count * BigInt(ITEM_SIZE.get(entry.dtype)) <= PIECE) return sha256(await pack.plain(owner, scaffold));
  if (entry.role === "seeded") return hashed(count, (start, length) => bytesOf(pack.backbone(owner, start, length, scaffold)));
  if (entry.role === "constant") {
    const piece = pack.constant({ ...entry, shape: [BigInt(PIECE)] });
    return hashed(count, (_, length) => piece.subarray(0, length * ITEM_SIZE.get(entry.dtype)));
  }
  if (entry.role === "stored" && !entry.coding) {
    await pack.data.check(pack.tensors.get(owner));
    return entry.sha256;
  }
  return sha256(await pack.plain(owner, scaffold));
}

async function hashed(count, pieceOf) {
  const hash = new Sha256();
  for (let start = 0n; start < count; start += BigInt(PIECE)) {
    const rest = count - start;
    hash.update(await pieceOf(start, rest < PIECE ? Number(rest) : PIECE));
  }
  return hash.hex();
}

const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Refuse an entry whose bytes do not fit in one array of every engine; larger ones are made in pieces. */
export function checkArray({ shape, dtype }) {
  if (numel(shape) * BigInt(ITEM_SIZE.get(dtype)) > MOST_OF_AN_ARRAY) {
    throw new UnsupportedError("takes more than 4 GiB in one piece, which not every engine has");
  }
}
