/** Addresses of packs on the page's own server. */

import { RunError } from "./errors.js";

const PACK = "model.lotta.safetensors";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** The pack that the page's query names, as `{pack, graph}`, two addresses or null; null if it names none. */
export function requested(search, base) {
  const query = new URLSearchParams(search);
  const model = query.get("model");
  const [pack, graph] = [query.get("pack"), query.get("graph")];
  if (model !== null) {
    if (!NAME.test(model)) {
      throw new RunError("address", "model", `${JSON.stringify(model)} is not the name of a model`, "A name has the form owner/name.");
    }
    const revision = encodeURIComponent(query.get("revision") || "main");
    return { pack: own(`/${model}/resolve/${revision}/${PACK}`, base), graph: graph && own(graph, base) };
  }
  if (pack === null) return null;
  return { pack: own(pack, base), graph: graph && own(graph, base) };
}

/** What a person wrote, owner/name or a path, as the query of an address. */
export function queryOf(text) {
  const trimmed = text.trim();
  return NAME.test(trimmed) && !trimmed.endsWith(".safetensors") ? `?model=${trimmed}` : `?pack=${encodeURIComponent(trimmed)}`;
}

function own(address, base) {
  let url = null;
  try {
    url = new URL(address, base);
  } catch {
    // Not an address: refused below.
  }
  if (url?.origin === new URL(base).origin) return url.href;
  const hint = "Download the pack from there and drop it here.";
  throw new RunError("address", address, "the page only reads from its own server", hint);
}
