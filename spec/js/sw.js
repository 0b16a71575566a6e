/**
 * The pages' service worker: with it they open without a network, and are isolated from other sites, which browsers ask of a
 * page before they give it threads. Files come from the server if it answers, so that a page is never a mixture of versions.
 */

const KEPT = "lottapack-page-1";
const RUNTIME = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm", "tokenizers.min.mjs"];
const PAGES = [
  "adapters.js", "agreement.js", "architecture.js", "arguments.js", "codings.js", "computed.js", "container.js", "descriptor.js", "digests.js", "errors.js",
  "faults.js", "files.js", "fingerprint.js", "graph.js", "hadamard.js", "index.html", "inflate.js", "json.js", "lottapack.js",
  "merge.js", "pack.js", "page/base.css", "page/dom.js", "page/icon.svg", "page/page.js", "page/pictures.js", "page/style.css",
  "page/summary.js", "page/views.js", "page/worker.js", "parameters.js", "protobuf.js", "quantile.js", "records.js", "run.html",
  "page/addresses.js", "page/download.js", "page/drop.js", "page/progress.js", "run/draw.js", "run/engine.js", "page/errors.js", "run/fuse.js", "run/helper.js", "run/images.js",
  "run/kind.js", "run/measured.js", "run/model.js", "run/other.js", "run/page.js", "run/problem.js", "run/runtime.js", "run/style.css",
  "run/tensors.js", "run/weights.js", "run/write.js", "run/writer.js", "scaffolds.js", "sha256.js", "shapes.js", "stream.js",
  "tables.js", "tensors.js", "text.js", "torch_nn.js", "trellis.js", "values.js", "verify.js",
];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
};

addEventListener("install", (event) => event.waitUntil(keep()));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(registration.scope)) event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(KEPT);
  await cache.addAll(PAGES.map((name) => new Request(name, { cache: "no-cache" }))); // of one version, not partly a browser's older copies
  await Promise.allSettled(RUNTIME.map((name) => cache.add(`vendor/${name}`))); // a copy may lie here without its runtime
  await skipWaiting();
}

async function answer(request) {
  let found;
  try {
    found = await fetch(request);
  } catch (fault) {
    found = await (await caches.open(KEPT)).match(request, { ignoreSearch: true });
    if (!found) throw fault;
  }
  if (found.type === "opaqueredirect" || found.status === 0) return found;
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
