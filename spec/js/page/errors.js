/** What can fail besides the pack and its graph, in the form that the pages show refusals in. */

export class RunError extends Error {
  /** `section`: address, runtime, memory, tokenizer or input; `where`: the place; `hint`: the next step. */
  constructor(section, where, message, hint = "") {
    super(message);
    this.name = "RunError";
    this.section = section;
    this.problems = [{ kind: section, where, message }];
    this.hint = hint;
  }
}

/** Any failure as `{section, problems, count, hint}`, or null for a fault of the page. `model`: its name for messages. */
export function refusalOf(error, model) {
  const shown = (section, problems, hint = "") => ({ section, problems: problems.slice(0, 100), count: problems.length, hint });
  if (error.section) return shown(error.section, error.problems, error.hint);
  const one = (section, message, hint) => shown(section, [{ kind: section, where: model, message }], hint);
  if (error.name === "UnsupportedError") return one("runtime", error.message, "Run it with the library: lottapack run PACK");
  if (isMemory(error)) {
    return one("memory", "the browser does not give the memory that this model needs", "Close other pages, or take a smaller model.");
  }
  if (error instanceof DOMException) {
    const problem = { kind: "length", where: "file", message: `cannot be read: ${error.message}` };
    return shown("container", [problem], "Choose the file again.");
  }
  return null;
}

/** Whether an error of the engine or of the runtime means that memory ran out. */
export function isMemory(error) {
  return /out of memory|\bOOM\b|bad_alloc|allocation failed|failed to allocate|could not allocate|Invalid typed array length/i.test(String(error?.message ?? error));
}
