/** Text from a decoder with a cache, token by token. */

import { RunError } from "../page/errors.js";
import { run } from "./runtime.js";
import { feedOf, numbersOf } from "./tensors.js";

/**
 * Yield the tokens that follow `ids`, as `{id, text, milliseconds}`, until the model ends the text or `most` are written.
 *
 * `temperature`: 0 takes the likeliest. `ends`: a Set of the tokens that end a text; `stopped()` ends it as well.
 */
export async function* write({ ort, session, spec }, ids, { temperature, most, ends, stopped, random = Math.random }) {
  let past = spec.past.map(({ dtype, dims }) => feedOf(ort, dtype, dims, null));
  let length = 0;
  let next = ids;
  for (let count = 0; count < most; count += 1) {
    const began = performance.now();
    const fed = { input_ids: feedOf(ort, "int64", [1, next.length], next) };
    length += next.length;
    if (spec.mask) fed[spec.mask] = feedOf(ort, "int64", [1, length], new Array(length).fill(1));
    if (spec.positions) fed[spec.positions] = feedOf(ort, "int64", [1, next.length], next.map((_, index) => length - next.length + index));
    spec.past.forEach(({ input }, index) => (fed[input] = past[index]));
    const found = await run(session, fed);
    past = spec.past.map(({ output }) => found[output]);
    const id = pick(lastRow(found.logits), temperature, random());
    yield { id, milliseconds: performance.now() - began };
    if (ends.has(id) || stopped()) return;
    next = [id];
  }
}

/** The logits after the last token. */
export function lastRow({ data, dims, type }) {
  return numbersOf({ type, data: data.subarray(data.length - dims.at(-1)) });
}

/** The greatest of some logits, none of which may be NaN. */
export function greatest(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  if (Number.isFinite(most)) return most;
  throw new RunError("runtime", "logits", `the model answers ${most}`, "Its weights or its graph are not those of a trained model.");
}

/** A token by its logit; `chance`: a number from 0 to 1. */
export function pick(logits, temperature, chance) {
  const best = logits.indexOf(greatest(logits));
  if (!(temperature > 0)) return best;
  const weigh = (id) => Math.exp((logits[id] - logits[best]) / temperature);
  let sum = 0;
  for (let id = 0; id < logits.length; id += 1) sum += weigh(id);
  let rest = chance * sum;
  for (let id = 0; id < logits.length; id += 1) if ((rest -= weigh(id)) < 0) return id;
  return best;
}

/** The tokenizer of a pack, or null. `files`: the bytes of its files by name. */
export async function tokenizerOf(files) {
  const text = (name) => (files.has(name) ? JSON.parse(new TextDecoder().decode(files.get(name))) : null);
  if (!files.has("tokenizer.json")) return null;
  try {
    const { Tokenizer } = await import("../vendor/tokenizers.min.mjs");
    return new Tokenizer(text("tokenizer.json"), text("tokenizer_config.json") ?? {});
  } catch (fault) {
    throw new RunError("tokenizer", "tokenizer.json", `it cannot be read: ${fault.message}`, "Save it again with transformers' fast tokenizers.");
  }
}

/** How many tokens a model has positions for, as its configuration says; without one, any number. */
export function positionsOf(config) {
  const said = ["max_position_embeddings", "n_positions"].map((field) => config?.get?.(field)).find((value) => value > 0);
  return said === undefined ? Infinity : Number(said);
}

/** The tokens that end a text: of generation_config.json, else of the model's configuration; and the tokenizer's. */
export function endsOf(files, config, tokenizer) {
  const ends = new Set();
  const add = (value) => [value].flat().forEach((id) => Number.isInteger(Number(id ?? NaN)) && ends.add(Number(id)));
  try {
    if (files.has("generation_config.json")) add(JSON.parse(new TextDecoder().decode(files.get("generation_config.json"))).eos_token_id);
  } catch (fault) {
    throw new RunError("tokenizer", "generation_config.json", `it cannot be read: ${fault.message}`, "Pack the model again.");
  }
  if (!ends.size) add(config?.get?.("eos_token_id"));
  const named = tokenizer?.config?.eos_token;
  const id = tokenizer?.token_to_id?.(typeof named === "object" ? named?.content : named);
  if (id !== undefined) ends.add(Number(id));
  return ends;
}
