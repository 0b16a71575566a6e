/** Copies what the run page takes from others, with the licences, from node_modules to ../js/vendor. */

import { copyFileSync, mkdirSync, rmSync } from "node:fs";

const FROM = new URL("node_modules/", import.meta.url);
const TO = new URL("../js/vendor/", import.meta.url);
const RUNTIME = "onnxruntime-web";
const FILES = [
  [`${RUNTIME}/dist/`, "ort.wasm.min.mjs"],
  [`${RUNTIME}/dist/`, "ort-wasm-simd-threaded.mjs"],
  [`${RUNTIME}/dist/`, "ort-wasm-simd-threaded.wasm"],
  [`${RUNTIME}/dist/`, "ort.webgpu.min.mjs"],
  [`${RUNTIME}/dist/`, "ort-wasm-simd-threaded.asyncify.mjs"],
  [`${RUNTIME}/dist/`, "ort-wasm-simd-threaded.asyncify.wasm"],
  ["@huggingface/tokenizers/dist/", "tokenizers.min.mjs"],
];

rmSync(TO, { recursive: true, force: true });
mkdirSync(TO);
for (const [folder, name] of FILES) copyFileSync(new URL(folder + name, FROM), new URL(name, TO));
copyFileSync(new URL("@huggingface/tokenizers/LICENSE", FROM), new URL("LICENSE.tokenizers", TO));
