/** An opened pack: checked header and descriptor; its tensors and rebuilt weights on request. */

import { isDrawn, isSlice } from "./adapters.js";
import { VALUE, adapterEntries, checkAgreement, expectedParts, tableTensor } from "./agreement.js";
import { readHeader } from "./container.js";
import { readDescriptor } from "./descriptor.js";
import { checkArray } from "./digests.js";
import { PackError, UnsupportedError, problem } from "./errors.js";
import { filePlace, fileTensor } from "./files.js";
import { fingerprint, fingerprintHex } from "./fingerprint.js";
import { fillHadamard, matrixOf } from "./hadamard.js";
import { factorDims, mergeInto, scalingFactor } from "./merge.js";
import { scaled } from "./parameters.js";
import { DEFAULT, scaffoldPlace } from "./scaffolds.js";
import { digest } from "./sha256.js";
import { ITEM_SIZE, numel } from "./shapes.js";
import { fill, halves, streamOf } from "./stream.js";
import { BUILTIN, HADAMARD, bitsOf, builtinTable, extremesOf, roundTo, scaleFault, tableFault, widen } from "./tables.js";
import { AGAIN, Tensors, compare } from "./tensors.js";
import { TORCH_CPU, isGenerated } from "./values.js";

/** Larger models are refused by default, since checking them takes as much work as they declare. */
export const DEFAULT_MAX_BYTES = 16n * 2n ** 30n;

const PIECE = 1 << 20; // elements of a step
const KEPT = 16; // tables by scale and dtype that are kept, of at most 256 KiB each

/**
 * Open a pack and check header, descriptor and their agreement; throws PackError. Weights are not generated.
 *
 * `source`: see readHeader(); fromBytes() and fromBlob() make one, and fromFile() in node.js.
 */
export async function open(source) {
  const header = await readHeader(source);
  const descriptor = readDescriptor(header.descriptor);
  const pack = new Pack(source, { ...header, descriptor, digests: checkAgreement(descriptor, header.tensors), tables: new Map() });
  await pack.readTables();
  return pack;
}

const bytesOf = ({ shape, dtype }) => numel(shape) * BigInt(ITEM_SIZE.get(dtype));

/** Made by open(). `descriptor`: see descriptor.js; `tensors`: see container.js. */
export class Pack {
  constructor(source, { descriptor, tensors, dataStart, digests, tables }) {
    this.source = source;
    this.descriptor = descriptor;
    this.tensors = tensors;
    this.dataStart = dataStart;
    this.digests = digests;
    this.data = new Tensors(source, dataStart, digests);
    this.tables = tables;
    this.owners = new Map();
    this.looked = null;
    this.luts = new Map();
  }

  /** What open() found, for a worker: `new Pack(source, pack.opened())` there skips the reading and the checks. */
  opened() {
    const { descriptor, tensors, dataStart, digests } = this;
    const used = [...scaled(descriptor.parameters)].map(({ distribution }) => distribution).filter((id) => BUILTIN.has(id));
    const tables = new Map([...this.tables, ...used.map((id) => [id, builtinTable(id)])]); // so that it computes none
    return { descriptor, tensors, dataStart, digests, tables };
  }

  /** Bytes of the rebuilt plain model, ties counted once, and of the factors that the seed gives one weight, as a bigint. */
  neededBytes() {
    let total = 0n;
    let most = 0n;
    for (const [name, entry] of this.descriptor.parameters) {
      if (entry.role === "tied") continue;
      total += bytesOf(entry);
      const adapter = entry.role === "adapted" ? [...adapterEntries(name, entry).values()] : [];
      const drawn = adapter.filter(isDrawn).reduce((sum, tensor) => sum + bytesOf(tensor), 0n);
      if (drawn > most) most = drawn;
    }
    return total + most;
  }

  /** Refuse a model that takes more than `maxBytes` (spec/v1/refusals.md, section 5). */
  checkLimit(maxBytes = DEFAULT_MAX_BYTES) {
    const needed = this.neededBytes();
    if (needed <= BigInt(maxBytes)) return;
    const message = `the model needs ${needed.toLocaleString("en")} bytes, but only ${maxBytes.toLocaleString("en")} are allowed`;
    throw new PackError("limit", [problem("limit", "parameters", message)], "If you trust the pack, allow more.");
  }

  /** The records of the tensors that a parameter's entry requires, by part: `value` if it has no coding. */
  parts(name) {
    const due = [...expectedParts(name, this.descriptor.parameters.get(name))];
    return new Map(due.map((tensor) => [tensor.part, this.tensors.get(tensor.name)]));
  }

  /** The bytes of a stored parameter, decoded if need be; checked. */
  readParameter(name) {
    return this.data.stored(name, this.descriptor.parameters.get(name), this.parts(name));
  }

  /** The bytes of a tensor of an adapter, decoded if need be; checked. `tensor`: its entry of adapterEntries(). */
  readAdapter(name, part, tensor) {
    if (isDrawn(tensor)) return this.drawAdapter(tensor);
    if (isSlice(tensor)) return this.sliceAdapter(part, tensor);
    const own = ([key]) => key === part || key.startsWith(`${part}.`);
    const held = [...this.parts(name)].filter(own).map(([key, info]) => [key === part ? VALUE : key, info]);
    return this.data.stored(tensor.name, tensor, new Map(held));
  }

  /** The bytes of a tensor of an adapter that comes from the seed, the same on every scaffold; checked. */
  async drawAdapter({ name, dtype, shape, sha256: recorded, coding }) {
    checkArray({ shape, dtype });
    const count = Number(numel(shape));
    const out = dtype === "float32" ? new Uint32Array(count) : new Uint16Array(count);
    const { lut, bits } = this.lookUp(coding.distribution, coding.scale, dtype);
    fill(out, lut, bits, streamOf(name), halves(BigInt(`0x${this.descriptor.rng.seedText}`)));
    const bytes = new Uint8Array(out.buffer);
    compare(name, await digest(bytes), recorded, "decodes to the SHA-256");
    return bytes;
  }

  /** The bytes of a factor that is the first rows and columns of another adapter's; checked. */
  async sliceAdapter(part, { name, dtype, shape, sha256: recorded, coding }) {
    const owner = adapterEntries(coding.of, this.descriptor.parameters.get(coding.of)).get(part);
    const whole = await this.readAdapter(coding.of, part, owner);
    const [rows, columns] = shape.map(Number);
    const size = ITEM_SIZE.get(dtype);
    const step = Number(owner.shape[1]) * size;
    const bytes = new Uint8Array(rows * columns * size);
    for (let row = 0; row < rows; row += 1) {
      bytes.set(whole.subarray(row * step, row * step + columns * size), row * columns * size);
    }
    compare(name, await digest(bytes), recorded, "decodes to the SHA-256");
    return bytes;
  }

  /** The bits of each index's value, and the number of bits of an index. */
  lookUp(distribution, scale, dtype) {
    const bits = BUILTIN.get(distribution)?.bits ?? this.descriptor.rng.tables.get(distribution).bits;
    const key = `${distribution} ${scale} ${dtype}`; // layers of one shape have one scale
    if (!this.luts.has(key)) {
      if (this.luts.size === KEPT) this.luts.clear();
      this.luts.set(key, bitsOf(this.tables.get(distribution) ?? builtinTable(distribution), scale, dtype));
    }
    return { lut: this.luts.get(key), bits };
  }

  /** The bytes of a file beside the model, decoded if need be; checked. */
  file(name) {
    const entry = this.descriptor.files.get(name);
    if (!entry) throw new UnsupportedError(`the pack does not contain the file ${JSON.stringify(name)}`);
    const [due] = expectedParts(fileTensor(name), entry);
    return this.data.stored(filePlace(name), entry, new Map([[due.part, this.tensors.get(due.name)]]));
  }

  /**
   * Bits of a generated parameter in its recorded dtype: Uint32Array for float32, else Uint16Array.
   *
   * `start` and `count`: which elements, in row-major order; all by default. `scaffold`: one of the pack's scaffolds.
   * Throws UnsupportedError for torch-cpu, and for a parameter or scaffold that the pack does not have; RangeError for
   * elements that it does not have.
   */
  backbone(name, start = 0n, count = null, scaffold = DEFAULT) {
    const entry = this.entry(name);
    if (!isGenerated(entry)) throw new UnsupportedError(`the parameter ${JSON.stringify(name)} is ${entry.role}, not generated`);
    const { lut, bits, matrix, stream, key } = this.sourceOf(name, scaffold);
    const whole = numel(entry.shape);
    const length = Number(count ?? whole - BigInt(start));
    if (start < 0 || length < 0 || BigInt(start) + BigInt(length) > whole) {
      throw new RangeError(`${JSON.stringify(name)} has ${whole} elements; ${length} from ${start} on are not all among them`);
    }
    const out = entry.dtype === "float32" ? new Uint32Array(length) : new Uint16Array(length);
    if (matrix) fillHadamard(out, lut, matrix, stream, key, BigInt(start));
    else fill(out, lut, bits, stream, key, BigInt(start));
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

  /** The entry of a parameter. Throws UnsupportedError for one that the pack does not have. */
  entry(name) {
    const found = this.descriptor.parameters.get(name);
    if (!found) throw new UnsupportedError(`the pack does not have a parameter ${JSON.stringify(name)}`);
    return found;
  }

  /** The owner at the end of a parameter's ties; each tie of a chain is followed once. */
  resolve(name) {
    const path = [];
    while (!this.owners.has(name) && this.entry(name).role === "tied") {
      path.push(name);
      name = this.entry(name).to;
    }
    const owner = this.owners.get(name) ?? name;
    for (const one of path) this.owners.set(one, owner);
    return owner;
  }

  /**
   * The bytes of a parameter of the plain, merged model in its recorded dtype; ties are followed.
   *
   * `checked`: compares the generated bits with their fingerprint first, as verify() does.
   */
  async plain(name, scaffold = DEFAULT, checked = false) {
    name = this.resolve(name);
    const entry = this.descriptor.parameters.get(name);
    checkArray(entry);
    if (entry.role === "stored") return this.readParameter(name);
    if (entry.role === "constant") return this.constant(entry);
    const bits = this.backbone(name, 0n, null, scaffold);
    if (checked) this.checkBits(name, entry, bits, scaffold);
    const merged = entry.role === "adapted" ? await this.merged(name, entry, bits) : bits;
    return new Uint8Array(merged.buffer, merged.byteOffset, merged.byteLength);
  }

  checkBits(name, entry, bits, scaffold) {
    const recorded = scaffold === DEFAULT ? entry.fingerprint : this.descriptor.rng.scaffolds.get(scaffold).fingerprints.get(name);
    const found = fingerprintHex(fingerprint(bits));
    if (found === recorded) return;
    const where = scaffold === DEFAULT ? name : scaffoldPlace(scaffold, name);
    throw new PackError("contents", [problem("fingerprint", where, `rebuilt ${found}, recorded ${recorded}`)], AGAIN);
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
    for (const [part, tensor] of adapterEntries(name, entry)) {
      const { buffer } = await this.readAdapter(name, part, tensor);
      parts[part] = widen(tensor.dtype === "float32" ? new Uint32Array(buffer) : new Uint16Array(buffer), tensor.dtype);
    }
    const weight = widen(bits, entry.dtype);
    const rank = Number(entry.rank);
    mergeInto(weight, {
      ...parts,
      scaling: scalingFactor(entry.alpha, rank, entry.scaling),
      rank,
      dims: factorDims(entry).slice(1).map(Number),
      fanInFanOut: entry.fan_in_fan_out,
    });
    return roundTo(weight, entry.dtype);
  }

  async readTables() {
    const ranges = new Map();
    for (const id of this.descriptor.rng.tables.keys()) {
      const name = tableTensor(id);
      const table = new Float32Array((await this.data.read(this.tensors.get(name))).buffer);
      const fault = tableFault(table);
      if (fault) throw new PackError("agreement", [problem("table", name, fault)]);
      this.tables.set(id, table);
      ranges.set(id, extremesOf(table));
    }
    const problems = [];
    for (const { place, distribution, scale, dtype } of scaled(this.descriptor.parameters)) {
      const fault = ranges.has(distribution) ? scaleFault(ranges.get(distribution), scale, dtype) : null;
      if (fault) problems.push(problem("scale", `${place}.scale`, fault));
    }
    if (problems.length) throw new PackError("descriptor", problems);
  }

  /** The arguments of fill() for a parameter. The last one's bits are cached for further pieces of the same tensor. */
  sourceOf(name, scaffold) {
    const { rng, parameters } = this.descriptor;
    if (rng.id === TORCH_CPU) {
      throw new UnsupportedError(`needs torch: PyTorch ${rng.torch} (${rng.capability}) generated these weights`);
    }
    const seed = scaffold === DEFAULT ? rng.seedText : rng.scaffolds.get(scaffold)?.seed;
    if (seed === undefined) {
      const known = [DEFAULT, ...rng.scaffolds.keys()].join(", ");
      throw new UnsupportedError(`the pack does not have a scaffold ${JSON.stringify(scaffold)}; it has ${known}`);
    }
    if (this.looked?.name !== name) {
      const { distribution, scale, dtype, shape } = parameters.get(name);
      const { lut, bits } = this.lookUp(distribution, scale, dtype);
      const matrix = distribution === HADAMARD ? matrixOf(shape) : null;
      this.looked = { name, lut, bits, matrix, stream: streamOf(name) };
    }
    return { ...this.looked, key: halves(BigInt(`0x${seed}`)) };
  }
}
