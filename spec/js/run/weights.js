/** Every weight of a pack, checked, merged and in the dtype that a graph wants, by several workers. */

import { PackError, roundTo, widen } from "../lottapack.js";

const SHARE = 3e6; // elements that are worth a worker of their own

/** The merged weights, as bytes by name. `wanted`: the graph's weights; others are checked as well. `progress(share)`. */
export async function generate(pack, bytes, wanted, { cores, progress }) {
  const { parameters } = pack.descriptor;
  const jobs = new Map();
  for (const [name, entry] of parameters) {
    if (entry.role === "tied") continue;
    jobs.set(name, { name, size: entry.shape.reduce((product, size) => product * Number(size), 1), as: [] });
  }
  for (const [name, { dtype }] of wanted) jobs.get(pack.resolve(name)).as.push({ name, dtype });
  const queue = [...jobs.values()].sort((a, b) => b.size - a.size);
  const total = queue.reduce((sum, { size }) => sum + size, 0);
  const found = new Map();
  let done = 0;
  const took = ({ size }, values) => {
    for (const [name, bytes] of values) found.set(name, bytes);
    progress((done += size) / (total || 1));
  };
  const workers = Math.min(cores, queue.length, Math.ceil(total / SHARE));
  if (workers <= 1) for (const job of queue) took(job, await weightsOf(pack, job));
  else await share(pack, bytes, queue, workers, took);
  return { weights: found, workers: Math.max(1, workers) };
}

/** The values of one parameter under each name that the graph has for it. */
export async function weightsOf(pack, { name, as }) {
  const bytes = await pack.plain(name, undefined, true);
  const { dtype } = pack.descriptor.parameters.get(name);
  return as.map((one) => [one.name, converted(bytes, dtype, one.dtype)]);
}

function converted(bytes, from, to) {
  if (from === to) return bytes;
  const narrow = ["float32", "float16", "bfloat16"];
  if (!narrow.includes(from) || !narrow.includes(to)) {
    const message = `the graph wants ${to} of a weight in ${from}, which this page does not convert`;
    throw new PackError("graph", [{ kind: "dtype", where: "model.onnx", message }], "Write the graph in the pack's own dtypes.");
  }
  const values = widen(from === "float32" ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer), from);
  return new Uint8Array(roundTo(values, to).buffer);
}

/** Hand out the jobs, the largest first, each to the worker that is free. */
function share(pack, bytes, queue, count, took) {
  const workers = [];
  const opened = pack.opened();
  let left = queue.length;
  let next = 0;
  const work = new Promise((resolve, reject) => {
    for (let number = 0; number < count; number += 1) {
      const worker = new Worker(new URL("helper.js", import.meta.url), { type: "module" });
      workers.push(worker);
      let job = null;
      const give = () => {
        job = queue[next++];
        if (job) worker.postMessage({ job });
      };
      worker.onmessage = ({ data: { values, refused, failed } }) => {
        if (refused) return reject(new PackError(refused.section, refused.problems, refused.hint));
        if (failed) return reject(Object.assign(new Error(failed.message), { name: failed.name }));
        took(job, values);
        left -= 1;
        return left ? give() : resolve();
      };
      worker.onerror = (event) => reject(new Error(event.message ?? "a worker could not be started"));
      worker.postMessage({ opened, bytes });
      give();
    }
  });
  return work.finally(() => workers.forEach((worker) => worker.terminate()));
}

