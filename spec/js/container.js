/** The safetensors file of a pack, in its one canonical form (spec/v1/container.md). */

import { MOST, PackError, problem } from "./errors.js";
import { JsonFault, parseCanonical } from "./json.js";
import { sha256 } from "./sha256.js";
import { FROM_CODE, ITEM_SIZE, numel, shapeFault } from "./shapes.js";
import { compareCodePoints, cut } from "./text.js";

const HEADER_CAP = 100_000_000;
const PREFIX = 8;
const AGAIN = "Get the file again.";
const NO_PACK = "If this is a plain safetensors file: lottapack pack CHECKPOINT -o PACK makes a pack from a checkpoint.";
const DESCRIPTOR = "lottapack";
const DIGEST = "lottapack.sha256";

const integers = (value) => Array.isArray(value) && value.every((item) => typeof item === "bigint");
const exactly = (map, ...keys) => map instanceof Map && map.size === keys.length && keys.every((key) => map.has(key));

function refuse(kind, where, message, hint = "") {
  return new PackError("container", [problem(kind, where, message)], hint);
}

/** Return a source for bytes in memory. */
export function fromBytes(bytes) {
  return { size: bytes.length, read: (begin, end) => bytes.slice(begin, end) };
}

/** Return a source for a Blob or File, which is read in pieces. */
export function fromBlob(blob) {
  return { size: blob.size, read: async (begin, end) => new Uint8Array(await blob.slice(begin, end).arrayBuffer()) };
}

/** Read canonical JSON; anything else is a PackError of the given section. */
export function readJson(bytes, section, where, hint = "") {
  try {
    return parseCanonical(bytes);
  } catch (fault) {
    if (!(fault instanceof JsonFault)) throw fault;
    throw new PackError(section, [problem(fault.kind, where, fault.message)], hint);
  }
}

/**
 * Read and check everything before the data (spec/v1/refusals.md, section 1).
 *
 * `source` has `size` in bytes and `read(begin, end)`, which returns a Uint8Array (or a promise of one).
 * Returns `{tensors, descriptor, dataStart}`: the tensors by name as `{name, dtype, shape, begin, end}` in the order of their
 * data (begin and end are numbers, counted from dataStart; shape holds bigints), and the descriptor's bytes.
 */
export async function readHeader(source) {
  const prefix = await source.read(0, Math.min(PREFIX, source.size));
  const length = prefix.length === PREFIX ? new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true) : 0n;
  if (length === 0n || length % 8n || length > BigInt(Math.min(HEADER_CAP, source.size - PREFIX))) {
    const other = otherKind(prefix);
    if (other) throw refuse("length", "length", `this is ${other}, not a pack`, "Choose a .lotta.safetensors file.");
    const said = `a header of ${length} bytes in a file of ${source.size}: truncated, or not a safetensors file`;
    const what = length > HEADER_CAP ? "the file does not begin with the length of a header: it is not a safetensors file" : said;
    throw refuse("length", "length", prefix.length === PREFIX ? what : "under 8 bytes: truncated, or not a safetensors file", AGAIN);
  }
  const dataStart = PREFIX + Number(length);
  const header = await source.read(PREFIX, dataStart);
  let end = header.length;
  while (end && header[end - 1] === 0x20) end -= 1;
  const value = readJson(header.subarray(0, end), "container", "header", NO_PACK);
  if (header.length - end !== (8 - (end % 8)) % 8) throw refuse("canonical", "header", "more padding than needed");
  if (!(value instanceof Map)) throw refuse("metadata", "header", "the header is not an object");
  const [descriptor, recorded] = metadata(value);
  const tensors = laidOut(entries(value), BigInt(source.size - dataStart));
  const found = sha256(descriptor);
  if (found !== recorded) throw refuse("digest", "descriptor", `its SHA-256 is ${found}, which differs from the recorded one`, AGAIN);
  const placed = tensors.map((info) => [info.name, { ...info, begin: Number(info.begin), end: Number(info.end) }]);
  return { tensors: new Map(placed), descriptor, dataStart };
}

/** What files of other kinds begin with, in Latin-1. */
const KINDS = [
  ["\x89PNG", "a PNG image"],
  ["\xff\xd8\xff", "a JPEG image"],
  ["GIF8", "a GIF image"],
  ["%PDF", "a PDF document"],
  ["PK\x03\x04", "a ZIP archive (torch.save and .npz write such)"],
  ["\x80\x02", "a pickle (older torch.save)"],
  ["GGUF", "a GGUF model"],
  ["\x89HDF", "an HDF5 file"],
  ["\x93NUMPY", "a .npy file"],
  ["\x1f\x8b", "a gzip archive"],
  ["<", "an HTML or XML document, such as a server's error page"],
  ["{", "JSON"],
  ["version ", "a pointer of Git LFS"],
];

function otherKind(prefix) {
  const text = String.fromCharCode(...prefix);
  return KINDS.find(([begin]) => text.startsWith(begin))?.[1];
}

function metadata(value) {
  const found = value.get("__metadata__");
  const place = "header.__metadata__";
  if (!(found instanceof Map) || !found.has(DESCRIPTOR)) {
    throw refuse("metadata", place, "does not contain a lottapack descriptor", NO_PACK);
  }
  if (!exactly(found, DESCRIPTOR, DIGEST) || ![...found.values()].every((item) => typeof item === "string")) {
    throw refuse("metadata", place, `must contain exactly ${DESCRIPTOR} and ${DIGEST}, both text`);
  }
  return [new TextEncoder().encode(found.get(DESCRIPTOR)), found.get(DIGEST)];
}

function entries(value) {
  const found = [];
  const problems = [];
  for (const [name, entry] of value) {
    if (name === "__metadata__") continue;
    const fault = entryFault(entry);
    if (fault) {
      if (problems.length < MOST) problems.push(problem(fault[0], `header.${cut(name, 200)}`, fault[1]));
    } else {
      const [begin, end] = entry.get("data_offsets");
      found.push({ name, dtype: FROM_CODE.get(entry.get("dtype")), shape: entry.get("shape"), begin, end });
    }
  }
  if (problems.length) throw new PackError("container", problems);
  return found;
}

function entryFault(entry) {
  if (!exactly(entry, "dtype", "shape", "data_offsets")) {
    return ["entry", "should have exactly dtype, shape and data_offsets"];
  }
  const dtype = FROM_CODE.get(entry.get("dtype"));
  if (dtype === undefined) return ["entry", "the element type is unknown"];
  const shape = entry.get("shape");
  const offsets = entry.get("data_offsets");
  if (!integers(shape)) return ["shape", "the shape is not a list of integers"];
  const fault = shapeFault(shape, ITEM_SIZE.get(dtype));
  if (fault) return ["shape", fault];
  if (!integers(offsets) || offsets.length !== 2) return ["offsets", "data_offsets should be two integers"];
  const [begin, end] = offsets;
  if (begin < 0n || end - begin !== numel(shape) * BigInt(ITEM_SIZE.get(dtype))) {
    return ["offsets", `data_offsets [${offsets.join(", ")}] do not fit shape [${shape.join(", ")}]`];
  }
  return null;
}

/** The tensors in the order of their data. Gaps, overlaps, a rest and any other order are refused. */
function laidOut(tensors, dataSize) {
  const due = [...tensors].sort(
    (a, b) => ITEM_SIZE.get(b.dtype) - ITEM_SIZE.get(a.dtype) || compareCodePoints(a.name, b.name),
  );
  const total = due.reduce((sum, info) => sum + info.end - info.begin, 0n);
  if (total !== dataSize) {
    const what = `the tensors take ${total} bytes and the file holds ${dataSize}: truncated, or bytes were added`;
    throw refuse("offsets", "data", what, AGAIN);
  }
  let place = 0n;
  const wrong = due.find((info) => {
    const moved = info.begin !== place;
    place += info.end - info.begin;
    return moved;
  });
  if (!wrong) return due;
  let reached = 0n;
  const inOrder = [...tensors].sort((a, b) => Number(a.begin - b.begin) || Number(a.end - b.end));
  const tight = inOrder.every((info) => {
    const fits = info.begin === reached;
    reached = info.end;
    return fits;
  });
  const [kind, what] = tight ? ["canonical", "tensors are not in order"] : ["offsets", "tensors overlap or leave gaps"];
  throw refuse(kind, `header.${cut(wrong.name, 200)}`, what);
}
