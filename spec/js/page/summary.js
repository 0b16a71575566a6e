/** The data of a pack that the page shows, as plain objects: a worker can post it, and a test can compare it. */

import { isDrawn, isSlice } from "../adapters.js";
import { adapterEntries } from "../agreement.js";
import { expectedTensors, widen } from "../lottapack.js";
import { ITEM_SIZE, numel } from "../shapes.js";

/** The labels of the groups of stored tensors, as in `lottapack report`. */
const GROUPS = {
  embedding: "embeddings",
  head: "heads",
  norm: "norms",
  bias: "biases",
  buffer: "buffers",
  other: "other tensors",
};

/** The summary of an opened pack. Sizes in bytes; `groups` add up to the file's. Throws PackError for a damaged beta. */
export async function summarise(pack) {
  const { architecture, rng, parameters, provenance, version, files } = pack.descriptor;
  const own = [...parameters.values()].filter(({ role }) => role !== "tied");
  const count = (entry) => Number(numel(entry.shape));
  return {
    version,
    architecture: { family: architecture.family, class: architecture.class },
    rng: {
      id: rng.id,
      seed: BigInt(`0x${rng.seedText}`).toString(),
      hex: rng.seedText,
      torch: rng.torch && `torch ${rng.torch}, ${rng.capability}`,
      scaffolds: [...rng.scaffolds].map(([name, { seed }]) => `${name} (seed ${BigInt(`0x${seed}`)})`),
      tables: [...rng.tables].map(([id, { bits }]) => ({ id, bits })),
    },
    provenance: [...provenance],
    files: [...files.keys()],
    fileSize: pack.source.size,
    needed: pack.neededBytes().toString(),
    numel: own.reduce((sum, entry) => sum + count(entry), 0),
    trained: trainedElements(pack),
    full: fullSizes(own),
    groups: groups(pack),
    rows: rows(parameters),
    betas: await betas(pack),
  };
}

/** The number of trained elements: adapters and parameters trained in full. What the seed or another adapter gives is neither. */
function trainedElements(pack) {
  let total = 0;
  for (const [name, entry] of pack.descriptor.parameters) {
    if (entry.role === "stored" && entry.trained) total += Number(numel(entry.shape));
    if (entry.role !== "adapted") continue;
    const frozen = entry.adapter.has("lambda_d") ? ["lora_A", "lora_B"] : [];
    for (const [part, tensor] of adapterEntries(name, entry)) {
      if (!frozen.includes(part) && !isDrawn(tensor) && !isSlice(tensor)) total += Number(numel(tensor.shape));
    }
  }
  return total;
}

/** Bytes of the plain model in float32 and in 16 bits; integers stay as they are. */
function fullSizes(entries) {
  const size = (floating) => (sum, { shape, dtype }) =>
    sum + Number(numel(shape)) * (dtype.includes("float") ? floating : ITEM_SIZE.get(dtype));
  return { float32: entries.reduce(size(4), 0), "16 bits": entries.reduce(size(2), 0) };
}

function groups({ descriptor, tensors, dataStart }) {
  const sizes = new Map([["adapters", 0]]);
  for (const { name, parameter, entry } of expectedTensors(descriptor)) {
    const beside = entry ? "files" : "tables";
    const label = parameter === null ? beside : (GROUPS[entry.group] ?? "adapters"); // adapters and their codings have no group
    const { begin, end } = tensors.get(name);
    sizes.set(label, (sizes.get(label) ?? 0) + end - begin);
  }
  sizes.set("descriptor", dataStart);
  return [...sizes].filter(([, size]) => size);
}

/** Parameters that differ only in the numbers in their names, as one row. */
function rows(parameters) {
  const found = new Map();
  for (const [name, entry] of parameters) {
    const { role, shape, dtype, distribution, scale, rank, alpha, scaling, group, trained, to } = entry;
    const label = name.replace(/(?<=^|\.)[0-9]+(?=\.|$)/g, "*");
    const shown = shape && (shape.length ? shape.join(" × ") : "scalar");
    const row = { role, label, shape: shown, dtype, distribution, scale, alpha, scaling, group, trained, to };
    row.rank = rank === undefined ? undefined : Number(rank);
    row.coding = entry.coding?.id;
    row.parts = entry.adapter && [...entry.adapter.keys()].join(", ");
    const target = to?.replace(/(?<=^|\.)[0-9]+(?=\.|$)/g, "*");
    const key = JSON.stringify({ ...row, to: target });
    if (!found.has(key)) found.set(key, { ...row, names: [], numel: 0 });
    const one = found.get(key);
    one.names.push(name);
    one.numel += shape ? Number(numel(shape)) : 0;
  }
  return [...found.values()].map(({ label, names, ...row }) => ({
    ...row,
    label: names.length === 1 ? names[0] : label,
    names,
  }));
}

/** The learned betas in the parameters' order, as `{name, value}`. */
async function betas(pack) {
  const found = [];
  for (const [name, entry] of pack.descriptor.parameters) {
    const beta = entry.role === "adapted" && adapterEntries(name, entry).get("beta");
    if (!beta) continue;
    const { buffer } = await pack.readAdapter(name, "beta", beta);
    const bits = beta.dtype === "float32" ? new Uint32Array(buffer) : new Uint16Array(buffer);
    found.push({ name, value: widen(bits, beta.dtype)[0] });
  }
  return found;
}
