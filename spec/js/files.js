/** Files that a pack contains besides the model: their names and entries (spec/v1/files.md). */

import { INTEGER, TEXT, exactRecord, fieldsOf, optional } from "./records.js";
import { kindOf, quote } from "./text.js";

/** Every name that a file may have, except those of TEMPLATE. */
export const NAMES = [
  "adapter_config.json",
  "added_tokens.json",
  "audio_tokenizer_config.json",
  "bpe.codes",
  "byte_maps.json",
  "chat_template.jinja",
  "chat_template.json",
  "dict.txt",
  "emoji.json",
  "entity_vocab.json",
  "generation_config.json",
  "merges.txt",
  "model.onnx",
  "normalizer.json",
  "preprocessor_config.json",
  "processor_config.json",
  "prophetnet.tokenizer",
  "qwen.tiktoken",
  "sentencepiece.bpe.model",
  "sentencepiece.model",
  "source.spm",
  "special_tokens_map.json",
  "spiece.model",
  "spm.model",
  "spm_char.model",
  "target.spm",
  "target_vocab.json",
  "tekken.json",
  "tiktoken.model",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "video_preprocessor_config.json",
  "vocab-src.json",
  "vocab-tgt.json",
  "vocab.json",
  "vocab.txt",
  "word_pronunciation.json",
  "word_shape.json",
];
const TEMPLATE = /^additional_chat_templates\/(?!(?:con|prn|aux|nul|com[0-9]|lpt[0-9])\.)[a-z0-9][a-z0-9_-]{0,63}\.jinja$/;
const MOST = 64;
const MAX_SIZE = 1n << 27n;
const MAX_SIZES = 1n << 28n;
const PLANES = "planes-zlib";

/** The place of a file in the descriptor. */
export const filePlace = (name) => `files[${quote(name)}]`;

/** The name of a file's tensor, without the ending of its coding. */
export const fileTensor = (name) => `lottapack.files.${name}`;

/** The entries by name, each in the form of a stored parameter, whose rules its bytes follow. */
export function readFiles(out, value) {
  if (!(value instanceof Map)) {
    out.add("field", "files", `should be an object, not ${kindOf(value)}`);
    return new Map();
  }
  if (!value.size || value.size > MOST) {
    out.add("field", "files", `names ${value.size} files; it should name 1 to ${MOST}`);
    return new Map();
  }
  const found = new Map();
  for (const [name, item] of value) {
    const entry = readFile(out, name, item);
    if (entry) found.set(name, entry);
  }
  const total = [...found.values()].reduce((sum, { shape }) => sum + shape[0], 0n);
  if (total > MAX_SIZES) out.add("field", "files", `files of more than ${MAX_SIZES} bytes in all`);
  return found;
}

function readFile(out, name, item) {
  const place = filePlace(name);
  if (!NAMES.includes(name) && !TEMPLATE.test(name)) out.add("name", place, "a pack holds no file of this name");
  const coding = optional(exactRecord({ id: TEXT, codes: TEXT }));
  if (!out.record(item, { size: INTEGER, sha256: TEXT, coding }, place)) return null;
  const entry = fieldsOf(item);
  if (entry.size < 0n || entry.size > MAX_SIZE) {
    out.add("field", `${place}.size`, `a file has 0 to ${MAX_SIZE} bytes, not ${entry.size}`);
    return null;
  }
  out.hexadecimal(entry.sha256, 64, `${place}.sha256`);
  const form = entry.coding && fieldsOf(entry.coding);
  if (form) {
    out.known(form.id, [PLANES], `${place}.coding.id`, "coding of a file");
    out.hexadecimal(form.codes, 64, `${place}.coding.codes`);
  }
  return { role: "stored", dtype: "uint8", shape: [entry.size], sha256: entry.sha256, coding: form };
}
