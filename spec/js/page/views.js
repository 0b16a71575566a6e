/** The cards of the page from a pack's summary (summary.js) and from the verdict on it. */

import { element, number, percent, size, svg } from "./dom.js";
import { betasPicture, bytesPicture, sizePicture } from "./pictures.js";

const ROLES = {
  adapted: "random backbone with a low-rank adapter",
  seeded: "random backbone",
  stored: "in the file",
  constant: "one value",
  tied: "shares another's storage",
};
const MARKS = {
  good: "M7 12.5l3.4 3.4L17.5 8.7",
  bad: "M8 8l8 8M16 8l-8 8",
  part: "M12 7v6M12 16.6v.1",
  busy: "M12 4a8 8 0 0 1 8 8",
};
const TITLES = {
  container: "Not a readable pack",
  descriptor: "The descriptor breaks the format",
  agreement: "The tensors contradict the descriptor",
  contents: "Damaged or changed",
  limit: "Larger than is checked unasked",
  graph: "The graph does not go with the pack",
  address: "Not to be had from this address",
  input: "Not what the page takes",
  memory: "Too little memory",
  runtime: "The model does not run here",
  tokenizer: "The tokenizer cannot be read",
};

const DRAWN = 2000;

const card = (title, ...children) => element("section", "card", {}, element("h2", "", {}, title), ...children);

/** The cards below the verdict. */
export function summaryCards(summary) {
  const cards = [factsCard(summary), bytesCard(summary)];
  if (summary.betas.length) {
    const some = summary.betas.slice(0, DRAWN);
    const which = some.length < summary.betas.length ? `; the first ${number(DRAWN)} of ${number(summary.betas.length)}` : "";
    const note = `The factor of each adapted layer's random weights, in the order of the names${which}.`;
    const odd = summary.betas.filter(({ value }) => !Number.isFinite(value));
    const named = odd.slice(0, 10).map(({ name, value }) => `${name} (${value})`).join(", ");
    const more = odd.length > 10 ? ` and ${number(odd.length - 10)} more` : "";
    const warning = odd.length ? [element("p", "warning", {}, `Not finite, and not in the picture: ${named}${more}.`)] : [];
    cards.push(card("Betas", betasPicture(some), element("p", "soft", {}, note), ...warning));
  }
  if (summary.rows.length) cards.push(card("Parameters", ...roles(summary.rows)));
  return cards;
}

function factsCard({ architecture, rng, rows, provenance, files, fileSize, numel, trained, version }) {
  const list = element("dl", "facts");
  const fact = (name, value, small) => {
    const said = element("dd", "", {}, value, ...(small ? [element("small", "", {}, small)] : []));
    list.append(element("div", "", {}, element("dt", "", {}, name), said));
  };
  fact("Architecture", architecture.class, architecture.family);
  fact("Parameters", number(numel), numel ? `${number(trained)} trained (${percent(trained, numel)})` : "");
  fact("Pack", size(fileSize), `${number(fileSize)} bytes, format ${version}`);
  const adapted = rows.filter(({ role }) => role === "adapted");
  const layers = adapted.reduce((sum, { names }) => sum + names.length, 0);
  const ranks = [...new Set(adapted.map(({ rank }) => rank))].sort((a, b) => a - b);
  const parts = [...new Set(adapted.map((row) => row.parts))].join("; ");
  fact("Adapters", layers ? `${number(layers)} of rank ${ranks.map(number).join(", ")}` : "none", parts);
  const tables = rng.tables.map(({ id, bits }) => `table ${id} of ${bits} bits`);
  fact("Seed", rng.seed, [`0x${rng.hex}`, rng.id, rng.torch, ...tables].filter(Boolean).join(", "));
  if (rng.scaffolds.length) fact("Scaffolds", number(1 + rng.scaffolds.length), `default, ${rng.scaffolds.join(", ")}`);
  if (files.length) fact("Files", number(files.length), files.join(", "));
  fact("Written by", provenance.map(([tool, at]) => `${tool} ${at}`).join(", ") || "unknown");
  return card("Pack", list);
}

function bytesCard({ groups, fileSize, full }) {
  return card("Bytes", ...bytesPicture(groups, fileSize), sizePicture(fileSize, full));
}

function* roles(rows) {
  for (const [role, what] of Object.entries(ROLES)) {
    const found = rows.filter((row) => row.role === role);
    if (!found.length) continue;
    const tensors = found.reduce((sum, { names }) => sum + names.length, 0);
    const values = found.reduce((sum, row) => sum + row.numel, 0);
    const once = COLUMNS[role].filter((column) => ONCE.includes(column) && saysOneThing(found, column));
    const plain = found.every(({ coding }) => !coding);
    const said = [
      `${number(tensors)} ${tensors > 1 ? "tensors" : "tensor"}`,
      ...(values ? [`${number(values)} values`] : []),
      ...once.filter((column) => column !== "coding" || !plain).map((column) => `${column === "parts" ? "" : `${TEXT[column][0]} `}${TEXT[column][1](found[0])}`),
    ];
    yield element("h3", "role", {}, `${role} `, element("span", "", {}, `${what}: ${said.join(", ")}`));
    const columns = COLUMNS[role].filter((column) => !once.includes(column));
    const counted = found.some(({ names }) => names.length > 1) ? ["count", ...columns] : columns;
    yield element("div", "scroll", {}, table(found, counted));
  }
}

const TEXT = {
  count: ["count", ({ names }) => `×${names.length}`, "number"],
  shape: ["shape", ({ shape }) => shape],
  dtype: ["dtype", ({ dtype }) => dtype],
  table: ["distribution", ({ distribution, scale }) => `${distribution} × ${number(scale)}`],
  rank: ["rank", ({ rank }) => number(rank), "number"],
  scaling: ["alpha", ({ alpha, scaling }) => `${number(alpha)} (${scaling})`],
  parts: ["learned", ({ parts }) => parts],
  coding: ["coding", ({ coding }) => coding ?? "none"],
  group: ["for", ({ group }) => group],
  trained: ["trained", ({ trained }) => (trained ? "yes" : "no")],
  to: ["tied to", ({ to }) => to],
};
const COLUMNS = {
  adapted: ["shape", "dtype", "table", "rank", "scaling", "parts"],
  seeded: ["shape", "dtype", "table"],
  stored: ["shape", "dtype", "coding", "group", "trained"],
  constant: ["shape", "dtype"],
  tied: ["to"],
};
/** Columns that move to the heading if all rows have the same value. */
const ONCE = ["dtype", "coding", "rank", "scaling", "parts"];
const SHOWN = 500;

const saysOneThing = (rows, column) => new Set(rows.map(TEXT[column][1])).size === 1;

function table(rows, columns) {
  const every = columns.map((column) => TEXT[column]);
  // On a narrow page the style breaks up rows, which would take the table's roles from it; so they are named.
  const row = (...cells) => element("tr", "", { role: "row" }, ...cells);
  const heading = (title, className = "") => element("th", className, { scope: "col", role: "columnheader" }, title);
  const head = every.map(([title, , className]) => heading(title, className));
  const made = element("table", "", { role: "table" }, row(heading("name"), ...head));
  for (const one of rows.slice(0, SHOWN)) {
    const name = element("td", "mono", { role: "cell", title: one.names.slice(0, 20).join("\n") }, one.label);
    const cells = every.map(([title, text, className]) => element("td", className, { role: "cell", "data-label": title }, text(one)));
    made.append(row(name, ...cells));
  }
  if (rows.length > SHOWN) made.append(row(element("td", "soft", { role: "cell" }, `... and ${rows.length - SHOWN} more`)));
  return made;
}

/** Fill the verdict's card: `kind` is good, bad, part or busy. */
export function showVerdict(node, kind, title, detail, ...children) {
  const mark = svg("svg", "mark", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  mark.append(svg("circle", "", { cx: 12, cy: 12, r: 11 }), svg("path", "", { d: MARKS[kind] }));
  node.className = `card verdict ${kind}`;
  node.hidden = false;
  node.replaceChildren(mark, element("strong", "", {}, title), element("span", "detail", {}, detail), ...children);
}

/**
 * Show that a pack is worked on. `cancelled`: called when a person ends it. Returns `{bar, say}`: the bar of its progress,
 * and a function that shows what is being done.
 */
export function showWork(node, name, cancelled) {
  const bar = element("progress", "", { max: 1, "aria-label": "progress" });
  const cancel = element("button", "quiet", { type: "button" }, "Cancel");
  cancel.addEventListener("click", () => {
    cancelled();
    showVerdict(node, "part", "Cancelled", `${name} was not checked to the end.`);
    document.querySelector("#file").focus();
  });
  return { bar, say: (title) => showVerdict(node, "busy", title, name, bar, cancel) };
}

/** Show a fault of the page itself. */
export function showFault(node, name, message) {
  const note = element("p", "hint", {}, "This is a fault of the page, not of the pack. Please report it with this text.");
  showVerdict(node, "bad", "The page failed", name, element("p", "problems mono", {}, message), note);
}

/** Show the result of a finished check. */
export function showResult(node, name, { ok, checks, sha256, seconds }) {
  const failed = checks.filter(({ status }) => status === "failed");
  const skipped = checks.filter(({ status }) => status === "skipped");
  const drawn = checks.filter(({ what, status }) => what === "fingerprint" && status === "ok").length;
  const digest = element("p", "hint mono soft", {}, `SHA-256 ${sha256}`);
  if (!ok) {
    const problems = failed.map(({ what, where, detail }) => ({ kind: what, where, message: detail }));
    showVerdict(node, "bad", TITLES.contents, `${name}: what it holds is not what it records.`, problemList(problems), digest);
    node.append(element("p", "hint", {}, "Download the file again from its source."));
  } else if (skipped.length) {
    const what = `Every hash is right. ${number(skipped.length)} drawn tensors were not rebuilt: this page ${skipped[0].detail}.`;
    const hint = element("p", "hint", {}, "To check them too: lottapack verify PACK");
    showVerdict(node, "part", "Checked as far as possible", `${name}: ${what}`, hint, digest);
  } else {
    const tensors = checks.filter(({ what }) => what === "sha256").length;
    const hashes = `${number(tensors)} ${tensors === 1 ? "hash" : "hashes"}`;
    const rebuilt = `${number(drawn)} rebuilt ${drawn === 1 ? "tensor" : "tensors"}`;
    const took = `${Number(seconds.toPrecision(2))} s`;
    showVerdict(node, "good", "Verified", `${name}: ${hashes} and ${rebuilt}, every bit as recorded. ${took}`, digest);
  }
}

/** Show a refusal. */
export function showRefusal(node, name, { section, problems, count, hint }) {
  showVerdict(node, "bad", TITLES[section], name, problemList(problems, count));
  if (hint) node.append(element("p", "hint", {}, hint));
}

const FIRST = 10;

function problemList(problems, count = problems.length) {
  const list = element("ul", "problems");
  for (const { kind, where, message } of problems.slice(0, FIRST)) {
    list.append(element("li", "", {}, element("span", "where mono", {}, where), message, element("span", "soft", {}, ` (${kind})`)));
  }
  if (count > FIRST) list.append(element("li", "soft", {}, `... and ${number(count - FIRST)} more`));
  return list;
}
