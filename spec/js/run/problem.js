/** A refusal below a model's controls. */

/** Show a refusal's first problem and its next step. */
export function showProblem(node, { problems: [{ where, message }], hint }) {
  node.textContent = `${where}: ${message}.${hint ? ` ${hint}` : ""}`;
}
