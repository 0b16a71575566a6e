/** Answers to the requests of the protocol of spec/v1/conformance.md. conformance.js reads and writes them. */

import * as lotta from "./lottapack.js";
import { JsonFault } from "./json.js";
import { fromFile } from "./node.js";

const hexBytes = (text) => Uint8Array.from(text === "-" ? [] : Buffer.from(text, "hex"));
const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const shapeOf = (text) => (text === "-" ? [] : text.split(",").map(BigInt));
const wordsOf = (text) => text.split(" ").map((word) => parseInt(word, 16));
const hex16 = (number) => number.toString(16).padStart(16, "0");
const escape = (text) => lotta.stringify(text).slice(1, -1);

const PARTS = ["lora_A", "lora_B", "beta", "magnitude", "lambda_b", "lambda_d", "scale_in", "scale_out"];

/** The answer to each request, as fields. */
const ANSWERS = {
  hello: () => ["1", "judge"],
  philox(counter, key) {
    const [c0, c1, ...stream] = wordsOf(counter);
    const found = new Int32Array(4);
    lotta.philox(found, 1, c0, c1, stream, wordsOf(key));
    return [Array.from(found, (word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ")];
  },
  stream(name) {
    const [low, high] = lotta.streamOf(name);
    return [hex16((BigInt(high) << 32n) | BigInt(low))];
  },
  table: (id) => [lotta.sha256(bytesOf(lotta.builtinTable(id)))],
  elements(name, seed, given, bits, scale, dtype, start, count, shape) {
    const own = lotta.BUILTIN.has(given) ? null : new Float32Array(hexBytes(given).buffer);
    const table = own ? Float32Array.from({ length: 2 ** bits }, (_, n) => own[n % own.length]) : lotta.builtinTable(given);
    const out = dtype === "float32" ? new Uint32Array(Number(count)) : new Uint16Array(Number(count));
    const source = [lotta.streamOf(name), lotta.halves(BigInt(`0x${seed}`)), BigInt(start)];
    const lut = lotta.bitsOf(table, Number(scale), dtype);
    if (shape === "-") lotta.fill(out, lut, Number(bits), ...source);
    else lotta.fillHadamard(out, lut, lotta.matrixOf(shapeOf(shape)), ...source);
    return [lotta.sha256(bytesOf(out)), lotta.fingerprintHex(lotta.fingerprint(out, BigInt(start)))];
  },
  decode(id, dtype, shape, codes, scales) {
    const entry = { shape: shapeOf(shape), dtype, coding: { id } };
    try {
      return [lotta.sha256(lotta.decodeParameter(entry, { codes: hexBytes(codes), scales: hexBytes(scales) }))];
    } catch (fault) {
      if (!(fault instanceof lotta.CodingFault)) throw fault;
      return ["refused", "contents", "coding", escape(fault.message)];
    }
  },
  merge(sizes, turned, alpha, rule, _shared, dtype, from, ...tensors) {
    const [, dOut, dIn, rank] = sizes.split(",").map(Number);
    const widen = (text, type) => {
      const bytes = hexBytes(text);
      return lotta.widen(type === "float32" ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer), type);
    };
    const weight = widen(tensors[0], dtype);
    const adapter = {};
    PARTS.forEach((part, i) => {
      if (tensors[i + 1] !== "-") adapter[part] = widen(tensors[i + 1], from);
    });
    const scaling = lotta.scalingFactor(Number(alpha), rank, rule);
    const fanInFanOut = turned === "true";
    lotta.mergeInto(weight, { ...adapter, scaling, rank, dims: [dOut, dIn], fanInFanOut });
    return [lotta.sha256(bytesOf(lotta.roundTo(weight, dtype)))];
  },
  json(text) {
    try {
      lotta.parseCanonical(hexBytes(text));
      return ["ok"];
    } catch (fault) {
      if (!(fault instanceof JsonFault)) throw fault;
      return ["refused", fault.kind];
    }
  },
  check: (path, allowed) => withPack(path, (pack) => checked(pack, Number(allowed))),
  weights: (path, scaffold) =>
    withPack(path, (pack) => listed(pack.descriptor.parameters.keys(), async (name) => lotta.sha256(await pack.plain(name, scaffold)))),
  fingerprints: (path, scaffold) =>
    withPack(path, (pack) => {
      const drawn = [...pack.descriptor.parameters].filter(([, { fingerprint }]) => fingerprint !== undefined);
      return listed(drawn.map(([name]) => name), (name) => pack.fingerprint(name, undefined, scaffold));
    }),
  files: (path) => withPack(path, (pack) => listed(pack.descriptor.files.keys(), async (name) => lotta.sha256(await pack.file(name)))),
};

async function withPack(path, answer) {
  const source = fromFile(path);
  try {
    return await answer(await lotta.open(source));
  } catch (error) {
    if (!(error instanceof lotta.PackError)) throw error;
    const [{ kind, where }] = error.problems;
    return ["refused", error.section, kind, escape(where)];
  } finally {
    source.close();
  }
}

async function checked(pack, maxBytes) {
  const { checks } = await lotta.verify(pack, { maxBytes });
  const failed = checks.find(({ status }) => status === "failed");
  return failed ? ["refused", "contents", failed.what, escape(failed.where)] : ["ok"];
}

async function listed(names, valueOf) {
  const found = ["ok"];
  for (const name of names) found.push(escape(name), await valueOf(name));
  return found;
}

/** The fields of the answer to the fields of a request. */
export async function answerTo([request, ...fields]) {
  return Object.hasOwn(ANSWERS, request) ? ANSWERS[request](...fields) : ["unsupported"];
}

/** A field as it stands in a line, and the text that it stands for. */
export const unescape = (field) => (field.includes("\\") ? JSON.parse(`"${field}"`) : field);
