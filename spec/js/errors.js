/** The errors of this reader. Kinds and places are those of spec/v1/refusals.md and of the vectors' sidecars. */

const SUMMARIES = {
  container: "is not a readable pack:",
  descriptor: "has a descriptor that breaks the format:",
  agreement: "holds tensors that contradict its descriptor:",
  contents: "is damaged or was changed:",
  limit: "declares more than is allowed:",
  graph: "does not go with the graph:",
};
const SHOWN = 10;

/** The largest number of problems recorded for a file. */
export const MOST = 1000;

/**
 * A pack is refused.
 *
 * `section`: container, descriptor, agreement, contents, limit or graph; `problems`: all faults, each as
 * `{kind, where, message}`; `hint`: the next step, or empty.
 */
export class PackError extends Error {
  constructor(section, problems, hint = "") {
    const lines = problems.slice(0, SHOWN).map(({ where, message }) => `\n  ${where}: ${message}`);
    const more = problems.length > SHOWN ? `\n  ... and ${problems.length - SHOWN} more` : "";
    super(`${SUMMARIES[section]}${lines.join("")}${more}${hint ? `\n${hint}` : ""}`);
    this.name = "PackError";
    this.section = section;
    this.problems = problems;
    this.hint = hint;
  }
}

/** Something that this reader does not support, such as generating weights as PyTorch does. */
export class UnsupportedError extends Error {
  constructor(message) {
    super(message);
    this.name = "UnsupportedError";
  }
}

/** One fault of a pack. */
export function problem(kind, where, message) {
  return { kind, where, message };
}
