/** Addresses of packs on the page's own server. */

import { RunError } from "./errors.js";

const PACK = "model.lotta.safetensors";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*\/[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** The pack that the page's query names, as `{name, pack, graph}`: for people, and two addresses or null; null if it names none. */
export function requested(search, base) {
  const query = new URLSearchParams(search);
  const model = query.get("model");
  const [pack, graph] = [query.get("pack"), query.get("graph")];
  if (model !== null) {
    if (!NAME.test(model)) {
      throw new RunError("address", "model", `${JSON.stringify(model)} is not the name of a model`, "A name has the form owner/name.");
    }
    const revision = query.get("revision") || "main";
    if (/^\.{1,2}$/.test(revision)) {
      throw new RunError("address", "revision", `${JSON.stringify(revision)} is not a branch, tag or commit`, "Leave it out for main.");
    }
    const name = revision === "main" ? model : `${model}@${revision}`;
    return { name, pack: own(`/${model}/resolve/${encodeURIComponent(revision)}/${PACK}`, base), graph: graph && own(graph, base) };
  }
  if (pack === null) return null;
  const address = own(pack, base);
  return { name: pathOf(address), pack: address, graph: graph && own(graph, base) };
}

/** What a person wrote, owner/name or a path, as the query of an address. */
export function queryOf(text) {
  const trimmed = text.trim();
  return NAME.test(trimmed) && !trimmed.endsWith(".safetensors") ? `?model=${trimmed}` : `?pack=${encodeURIComponent(trimmed)}`;
}

/** The path of an address, for people to read. */
export function pathOf(address) {
  const { pathname } = new URL(address);
  try {
    return decodeURI(pathname);
  } catch {
    return pathname; // it holds a % that stands for nothing
  }
}

function own(address, base) {
  const page = new URL(base);
  let url = null;
  try {
    url = new URL(address, base);
  } catch {
    // Not an address: refused below.
  }
  // The origin of a blob: address is that of the page that made it.
  if (url?.origin === page.origin && url.protocol === page.protocol && !url.username && !url.password) return url.href;
  const hint = "Download the pack from there and drop it here.";
  throw new RunError("address", address, "the page only reads from its own server", hint);
}
