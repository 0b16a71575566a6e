/** An opened pack: checked header and descriptor; its tensors and rebuilt weights on request. */

import { CodingFault, codedTensors, compressedFault, decodeParameter } from "./codings.js";
import { readHeader } from "./container.js";
import { readDescriptor } from "./descriptor.js";
import { MOST, PackError, UnsupportedError, problem } from "./errors.js";
import { fingerprint, fingerprintHex } from "./fingerprint.js";
import { factorDims, mergeInto, scalingFactor } from "./merge.js";
import { TORCH_CPU, isGenerated, placeOf } from "./parameters.js";
import { DEFAULT } from "./scaffolds.js";
import { Sha256, sha256 } from "./sha256.js";
import { ITEM_SIZE, numel } from "./shapes.js";
import { fill, halves, streamOf } from "./stream.js";
import { BUILTIN, bitsOf, builtinTable, extremesOf, roundTo, scaleFault, tableFault, widen } from "./tables.js";

/** Models that declare more are refused unless the caller says otherwise: checking one is that much work. */
export const DEFAULT_MAX_BYTES = 16n * 2n ** 30n;

const PIECE = 1 << 20; // elements or bytes of a step
const AGAIN = "Get the file again from where it came.";

/**
 * Every tensor that a descriptor calls for, as `{name, owner, dtype, shape, sha256}`.
 *
 * The shape of a compressed tensor is null: only the file knows its size.
 */
export function* expectedTensors({ rng, parameters }) {
  for (const [id, { bits, sha256: digest }] of rng.tables) {
    yield { name: tableTensor(id), owner: `rng.tables.${id}`, dtype: "float32", shape: [2n ** BigInt(bits)], sha256: digest };
  }
  for (const [name, entry] of parameters) {
    if (entry.role === "stored" && entry.coding) {
      for (const { part, ...tensor } of codedTensors(entry)) yield { name: `${name}.${part}`, owner: name, ...tensor };
    } else if (entry.role === "stored") {
      yield { name, owner: name, ...entry };
    }
    if (entry.role !== "adapted") continue;
    const [dOut, dIn] = factorDims(entry.shape, entry.fan_in_fan_out);
    const shapes = { lora_A: [entry.rank, dIn], lora_B: [dOut, entry.rank], beta: [1n], magnitude: [dOut] };
    for (const [part, tensor] of entry.adapter) {
      yield { name: adapterPrefix(name) + part, owner: name, shape: shapes[part], ...tensor };
    }
  }
}

/** What stands before `lora_A` in the names of a parameter's adapter (spec/v1/container.md, section 5). */
export const adapterPrefix = (parameter) => parameter.slice(0, parameter.lastIndexOf(".") + 1);

const tableTensor = (id) => `lottapack.tables.${id}`;

/**
 * Open a pack and check header, descriptor and their agreement; throws PackError. No weights are made.
 *
 * `source`: see container.js; fromBytes() and fromBlob() below make one, and fromFile() in node.js.
 */
export async function open(source) {
  const header = await readHeader(source);
  const pack = new Pack(source, header, readDescriptor(header.descriptor));
  pack.checkAgreement();
  await pack.readTables();
  return pack;
}

/** A source of bytes that are in memory. */
export function fromBytes(bytes) {
  return { size: bytes.length, read: (begin, end) => bytes.slice(begin, end) };
}

/** A source of a Blob or File, read piece by piece. */
export function fromBlob(blob) {
  return { size: blob.size, read: async (begin, end) => new Uint8Array(await blob.slice(begin, end).arrayBuffer()) };
}

/** Made by open(). `descriptor`: see descriptor.js; `tensors`: see container.js. */
export class Pack {
  constructor(source, header, descriptor) {
    this.source = source;
    this.descriptor = descriptor;
    this.tensors = header.tensors;
    this.dataStart = header.dataStart;
    this.digests = new Map();
    this.tensorsOf = new Map();
    this.tables = new Map();
    this.looked = null;
  }

  /** Bytes of the rebuilt plain model, ties counted once, as a bigint. */
  declaredBytes() {
    let total = 0n;
    for (const entry of this.descriptor.parameters.values()) {
      if (entry.role !== "tied") total += numel(entry.shape) * BigInt(ITEM_SIZE.get(entry.dtype));
    }
    return total;
  }

  /** Refuse a model that declares more than `maxBytes` (spec/v1/refusals.md, section 5). */
  checkLimit(maxBytes = DEFAULT_MAX_BYTES) {
    const needed = this.declaredBytes();
    if (needed <= BigInt(maxBytes)) return;
    const message = `the model is one of ${needed.toLocaleString("en")} bytes, and ${maxBytes.toLocaleString("en")} are allowed`;
    throw new PackError("limit", [problem("limit", "parameters", message)], "If you trust the pack, allow more.");
  }

  /** The bytes of a tensor of the file, copied out of it, or of a coded parameter, decoded; both checked. */
  async read(name) {
    if (!this.tensors.has(name)) return this.decoded(name, this.descriptor.parameters.get(name));
    const { begin, end, dtype } = this.tensors.get(name);
    const bytes = await this.source.read(this.dataStart + begin, this.dataStart + end);
    this.compare(name, sha256(bytes), dtype === "bool" && bytes.some((byte) => byte > 1));
    return bytes;
  }

  async decoded(name, entry) {
    const parts = {};
    for (const { part } of codedTensors(entry)) parts[part] = await this.read(`${name}.${part}`);
    let bytes;
    try {
      bytes = decodeParameter(entry, parts);
    } catch (fault) {
      if (!(fault instanceof CodingFault)) throw fault;
      const where = fault.part ? `${name}.${fault.part}` : name;
      const hint = "A faulty writer made this file, or it was changed.";
      throw new PackError("contents", [problem("coding", where, `${fault.message} (${entry.coding.id})`)], hint);
    }
    this.compare(name, sha256(bytes), entry.dtype === "bool" && bytes.some((byte) => byte > 1));
    return bytes;
  }

  /** Check a tensor's SHA-256 piece by piece, keeping nothing of it. */
  async check(name) {
    const { begin, end, dtype } = this.tensors.get(name);
    const hash = new Sha256();
    let odd = false;
    for (let at = begin; at < end; at += PIECE) {
      const piece = await this.source.read(this.dataStart + at, this.dataStart + Math.min(end, at + PIECE));
      hash.update(piece);
      odd ||= dtype === "bool" && piece.some((byte) => byte > 1);
    }
    this.compare(name, hash.hex(), odd);
  }

  /**
   * Bits of a generated parameter in its recorded dtype: Uint32Array for float32, else Uint16Array.
   *
   * `start` and `count`: which elements, in row-major order; all by default. `scaffold`: on which of the pack's.
   * Throws UnsupportedError for torch-cpu, and for a scaffold that the pack does not have.
   */
  backbone(name, start = 0n, count = null, scaffold = DEFAULT) {
    const entry = this.descriptor.parameters.get(name);
    const length = Number(count ?? numel(entry.shape) - BigInt(start));
    const { lut, bits, stream, key } = this.sourceOf(name, scaffold);
    const out = entry.dtype === "float32" ? new Uint32Array(length) : new Uint16Array(length);
    fill(out, lut, bits, stream, key, BigInt(start));
    return out;
  }

  /** The fingerprint of a generated parameter, made piece by piece; `progress(elements)` is awaited. */
  async fingerprint(name, progress = () => {}, scaffold = DEFAULT) {
    const count = numel(this.descriptor.parameters.get(name).shape);
    let sum = 0n;
    for (let start = 0n; start < count; start += BigInt(PIECE)) {
      const length = count - start < PIECE ? Number(count - start) : PIECE;
      sum += fingerprint(this.backbone(name, start, length, scaffold), start);
      await progress(length);
    }
    return fingerprintHex(sum);
  }

  /** The bytes of a parameter of the plain, merged model in its recorded dtype; ties are followed. */
  async plain(name, scaffold = DEFAULT) {
    let entry = this.descriptor.parameters.get(name);
    while (entry.role === "tied") [name, entry] = [entry.to, this.descriptor.parameters.get(entry.to)];
    if (entry.role === "stored") return this.read(name);
    if (entry.role === "constant") return this.constant(entry);
    const bits = this.backbone(name, 0n, null, scaffold);
    const merged = entry.role === "adapted" ? await this.merged(name, entry, bits) : bits;
    return new Uint8Array(merged.buffer, merged.byteOffset, merged.byteLength);
  }

  constant({ shape, dtype, value }) {
    const size = ITEM_SIZE.get(dtype);
    const bytes = new Uint8Array(Number(numel(shape)) * size);
    for (let i = 0; i < size; i += 1) {
      const byte = parseInt(value.slice(2 * (size - 1 - i), 2 * (size - i)), 16);
      for (let at = i; at < bytes.length; at += size) bytes[at] = byte;
    }
    return bytes;
  }

  async merged(name, entry, bits) {
    const parts = {};
    for (const [part, { dtype }] of entry.adapter) {
      const bytes = await this.read(adapterPrefix(name) + part);
      const read = dtype === "float32" ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
      parts[part] = widen(read, dtype);
    }
    const weight = widen(bits, entry.dtype);
    const rank = Number(entry.rank);
    mergeInto(weight, {
      a: parts.lora_A,
      b: parts.lora_B,
      beta: parts.beta ? parts.beta[0] : 1,
      magnitude: parts.magnitude ?? null,
      scaling: scalingFactor(entry.alpha, rank, entry.scaling),
      rank,
      dims: factorDims(entry.shape, entry.fan_in_fan_out).map(Number),
      fanInFanOut: entry.fan_in_fan_out,
    });
    return roundTo(weight, entry.dtype);
  }

  compare(name, digest, odd) {
    const recorded = this.digests.get(name) ?? this.descriptor.parameters.get(name).sha256;
    const fault =
      digest !== recorded
        ? problem("sha256", name, `${this.digests.has(name) ? "its SHA-256 is" : "decodes to the SHA-256"} ${digest}, recorded ${recorded}`)
        : odd && problem("bool", name, "holds bytes other than 0 and 1");
    if (fault) throw new PackError("contents", [fault], AGAIN);
  }

  checkAgreement() {
    const problems = [];
    const owners = new Map();
    for (const due of expectedTensors(this.descriptor)) {
      if (owners.has(due.name)) {
        problems.push(problem("two-roles", due.name, `is called for by ${owners.get(due.name)} and by ${due.owner}`));
        continue;
      }
      owners.set(due.name, due.owner);
      this.digests.set(due.name, due.sha256);
      this.tensorsOf.set(due.owner, [...(this.tensorsOf.get(due.owner) ?? []), due.name]);
      const found = this.tensors.get(due.name);
      if (!found) {
        problems.push(problem("missing", due.name, `${due.owner} needs this tensor and the file lacks it`));
      } else if (!due.shape) {
        const fault = compressedFault(due.owner, this.descriptor.parameters.get(due.owner), found);
        if (fault) problems.push(problem("mismatch", due.name, fault));
      } else if (found.dtype !== due.dtype || found.shape.join() !== due.shape.join()) {
        const said = ({ dtype, shape }) => `${dtype} [${shape.join(", ")}]`;
        problems.push(problem("mismatch", due.name, `the file holds ${said(found)}, the descriptor says ${said(due)}`));
      }
    }
    for (const name of this.tensors.keys()) {
      if (!owners.has(name)) problems.push(problem("unused", name, "no parameter calls for this tensor"));
    }
    if (problems.length) throw new PackError("agreement", problems.slice(0, MOST));
  }

  async readTables() {
    const ranges = new Map();
    for (const id of this.descriptor.rng.tables.keys()) {
      const name = tableTensor(id);
      const table = new Float32Array((await this.read(name)).buffer);
      const fault = tableFault(table);
      if (fault) throw new PackError("agreement", [problem("table", name, fault)]);
      this.tables.set(id, table);
      ranges.set(id, extremesOf(table));
    }
    const problems = [];
    for (const [name, entry] of this.descriptor.parameters) {
      if (!isGenerated(entry) || !ranges.has(entry.distribution)) continue;
      const fault = scaleFault(ranges.get(entry.distribution), entry.scale, entry.dtype);
      if (fault) problems.push(problem("scale", `${placeOf(name)}.scale`, fault));
    }
    if (problems.length) throw new PackError("descriptor", problems);
  }

  /** What fill() needs for a parameter. The last one's bits are kept: pieces of one tensor share them. */
  sourceOf(name, scaffold) {
    const { rng, parameters } = this.descriptor;
    if (rng.id === TORCH_CPU) {
      throw new UnsupportedError(`needs torch: PyTorch ${rng.torch} (${rng.capability}) drew these weights`);
    }
    const seed = scaffold === DEFAULT ? rng.seedText : rng.scaffolds.get(scaffold)?.seed;
    if (seed === undefined) {
      const known = [DEFAULT, ...rng.scaffolds.keys()].join(", ");
      throw new UnsupportedError(`the pack has no scaffold ${JSON.stringify(scaffold)}; it has ${known}`);
    }
    if (this.looked?.name !== name) {
      const { distribution, scale, dtype } = parameters.get(name);
      const table = this.tables.get(distribution) ?? builtinTable(distribution);
      const bits = BUILTIN.get(distribution)?.bits ?? rng.tables.get(distribution).bits;
      const lut = bitsOf(table, scale, dtype);
      this.looked = { name, lut, bits, stream: streamOf(name) };
    }
    return { ...this.looked, key: halves(BigInt(`0x${seed}`)) };
  }
}
