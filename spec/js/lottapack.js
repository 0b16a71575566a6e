/**
 * A second implementation of the lottapack format: read a pack, check it, rebuild any tensor. No dependencies.
 *
 *     import { fromBlob, open, verify } from "./lottapack.js";
 *     const pack = await open(fromBlob(file));          // refused with a PackError if anything is wrong
 *     pack.descriptor.architecture.class;               // what it declares
 *     pack.backbone("0.weight", 1024n, 512);            // any range of a generated tensor, as bits
 *     await pack.plain("0.weight");                     // a merged weight, as little-endian bytes
 *     await pack.file("tokenizer.json");                // a file besides the model
 *     (await verify(pack)).ok;                          // every hash and every fingerprint
 *
 * README.md in this folder says which module does what. For files in Node: node.js.
 */

export { adapterPrefix } from "./adapters.js";
export { PackError, UnsupportedError } from "./errors.js";
export { expectedTensors } from "./agreement.js";
export { fromBlob, fromBytes } from "./container.js";
export { DEFAULT_MAX_BYTES, Pack, open } from "./pack.js";
export { CodingFault, decodeParameter } from "./codings.js";
export { DEFAULT } from "./scaffolds.js";
export { plainSha256 } from "./digests.js";
export { verify } from "./verify.js";
export { fingerprint, fingerprintHex } from "./fingerprint.js";
export { fillHadamard, matrixOf } from "./hadamard.js";
export { fill, halves, philox, streamOf } from "./stream.js";
export { BUILTIN, bitsOf, builtinTable, roundTo, widen } from "./tables.js";
export { factorDims, mergeInto, scalingFactor } from "./merge.js";
export { checkGraph, readGraph, separate } from "./graph.js";
export { parse, parseCanonical, stringify } from "./json.js";
export { sha256 } from "./sha256.js";

if (new Uint8Array(new Uint16Array([1]).buffer)[0] !== 1) {
  throw new Error("lottapack.js needs a little-endian machine: tensors are read and written in its order");
}
