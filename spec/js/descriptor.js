/** Reads the descriptor's bytes into records, or reports all their faults (spec/v1/descriptor.md). */

import { architectureProblems } from "./architecture.js";
import { readComputed } from "./computed.js";
import { readJson } from "./container.js";
import { PackError } from "./errors.js";
import { readFiles } from "./files.js";
import { readParameters } from "./parameters.js";
import { Collector, INTEGER, OBJECT, TEXT, optional } from "./records.js";
import { checkScaffolds, readScaffolds } from "./scaffolds.js";
import { BUILTIN } from "./tables.js";
import { kindOf, quote } from "./text.js";
import { CONSTRUCTOR, TORCH_CPU } from "./values.js";

/** The newest version that this reader supports. */
export const FORMAT_VERSION = "1.0";
const PHILOX = "philox4x32-10";
const FIELDS = ["lottapack", "architecture", "rng", "parameters", "provenance"];
const OPTIONAL = ["computed", "files"];
const VERSION = /^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$/;
const MAX_PROVENANCE = 64;
const WIDTHS = [1n, 2n, 4n, 8n, 16n];

/**
 * Read a descriptor; a PackError names every problem found.
 *
 * Returns `{version, architecture, rng, parameters, provenance, computed, files}`: architecture has family, class and config (a Map);
 * rng has id, seedText, tables (bits and sha256 by id), scaffolds (seed and fingerprints by name), torch and
 * capability; parameters: see parameters.js; computed: dtypes by name; files: see files.js.
 */
export function readDescriptor(bytes) {
  const value = readJson(bytes, "descriptor", "descriptor");
  const out = new Collector();
  const descriptor = read(out, value);
  if (out.problems.length) {
    const said = value instanceof Map ? value.get("lottapack") : null;
    const newer = typeof said === "string" && VERSION.test(said) && isNewer(said);
    throw new PackError(
      "descriptor",
      out.problems,
      newer ? `It says format ${said}; a newer lottapack may have written it: use a newer reader.` : "",
    );
  }
  return descriptor;
}

function isNewer(version) {
  const [major, minor] = version.split(".").map(Number);
  const [knownMajor, knownMinor] = FORMAT_VERSION.split(".").map(Number);
  return major > knownMajor || (major === knownMajor && minor > knownMinor);
}

function read(out, value) {
  if (!(value instanceof Map)) {
    out.add("field", "descriptor", `should be an object, not ${kindOf(value)}`);
    return null;
  }
  const version = value.get("lottapack");
  if (!checkVersion(out, version)) return null;
  for (const name of FIELDS) if (!value.has(name)) out.add("field", "descriptor", `the field ${name} is missing`);
  for (const name of value.keys()) {
    if (!FIELDS.includes(name) && !OPTIONAL.includes(name) && !name.startsWith("x-")) {
      out.add("field", "descriptor", `the field ${quote(name)} is unknown`);
    }
  }
  const architecture = value.has("architecture") ? readArchitecture(out, value.get("architecture")) : null;
  const rng = value.has("rng") ? readRng(out, value.get("rng")) : null;
  const parameters = value.has("parameters") ? readParameters(out, value.get("parameters"), rng) : null;
  if (rng) checkScaffolds(out, rng, parameters);
  const provenance = value.get("provenance");
  if (value.has("provenance")) checkProvenance(out, provenance);
  const computed = value.has("computed") ? readComputed(out, value.get("computed"), parameters) : new Map();
  const files = value.has("files") ? readFiles(out, value.get("files")) : new Map();
  return { version, architecture, rng, parameters, provenance, computed, files };
}

function checkVersion(out, text) {
  const match = typeof text === "string" ? VERSION.exec(text) : null;
  if (!match) out.add("version", "lottapack", 'the format version is missing or not of the form "1.0"');
  else if (match[1] !== FORMAT_VERSION.split(".")[0]) {
    out.add("version", "lottapack", `this reader knows format ${FORMAT_VERSION}, not ${text}`);
  } else return true;
  return false;
}

function readArchitecture(out, value) {
  if (!out.record(value, { family: TEXT, class: TEXT, config: OBJECT }, "architecture")) return null;
  const [family, className, config] = ["family", "class", "config"].map((key) => value.get(key));
  out.addAll(architectureProblems(family, className, config));
  return { family, class: className, config };
}

function readRng(out, value) {
  const tables = new Map();
  if (value instanceof Map && value.get("tables") instanceof Map) {
    for (const [id, item] of value.get("tables")) tables.set(id, readTable(out, id, item));
    if ([...tables.values()].includes(null)) return null;
  }
  const scaffolds = value instanceof Map && value.has("scaffolds") ? readScaffolds(out, value.get("scaffolds")) : new Map();
  if (!scaffolds) return null;
  const fields = { id: TEXT, seed: TEXT, tables: OBJECT, torch: optional(TEXT), capability: optional(TEXT), scaffolds: optional(OBJECT) };
  if (!out.record(value, fields, "rng")) return null;
  const [id, seed, torch, capability] = ["id", "seed", "torch", "capability"].map((key) => value.get(key));
  out.known(id, [PHILOX, TORCH_CPU], "rng.id", "generator");
  out.hexadecimal(seed, 16, "rng.seed");
  checkTorch(out, id, { torch, capability }, tables);
  if (id === TORCH_CPU && scaffolds.size) out.add("field", "rng", `the field scaffolds does not go with ${TORCH_CPU}`);
  return { id, seedText: seed, tables, scaffolds, torch, capability };
}

/** The fields that only the generator `torch-cpu` has (spec/v1/torch_cpu.md, section 1). */
function checkTorch(out, id, versions, tables) {
  for (const [name, version] of Object.entries(versions)) {
    if (id !== TORCH_CPU) {
      if (version !== undefined) out.add("field", "rng", `the field ${name} goes with ${TORCH_CPU} only`);
    } else if (version === undefined) {
      out.add("field", "rng", `the field ${name} is missing`);
    } else if (!/^[!-~]{1,64}$/.test(version)) {
      out.add("field", `rng.${name}`, "should be 1 to 64 printable ASCII characters without spaces");
    }
  }
  if (id === TORCH_CPU && tables.size) out.add("field", "rng.tables", `${TORCH_CPU} has no tables`);
}

function readTable(out, id, item) {
  const place = `rng.tables[${quote(id)}]`;
  if (!/^[a-z][a-z0-9_]{0,63}$/.test(id) || BUILTIN.has(id) || id === CONSTRUCTOR) {
    out.add("id", place, "a table's id is at most 64 lower-case letters, digits and _, a letter first, none of the format's own");
  }
  if (!out.record(item, { bits: INTEGER, sha256: TEXT }, place)) return null;
  const bits = item.get("bits");
  if (!WIDTHS.includes(bits)) out.add("field", `${place}.bits`, `a table has 1, 2, 4, 8 or 16 bits, not ${bits}`);
  out.hexadecimal(item.get("sha256"), 64, `${place}.sha256`);
  return { bits: Number(bits), sha256: item.get("sha256") };
}

function checkProvenance(out, value) {
  if (!(value instanceof Map)) {
    out.add("field", "provenance", `should be an object, not ${kindOf(value)}`);
    return;
  }
  if (value.size > MAX_PROVENANCE) {
    out.add("field", "provenance", `names ${value.size} tools; it should name at most ${MAX_PROVENANCE}`);
    return;
  }
  for (const [key, item] of value) {
    if (typeof item !== "string") {
      out.add("field", `provenance[${quote(key)}]`, `should be a string, not ${kindOf(item)}`);
    }
  }
}
