/**
 * Speaks the protocol of spec/v1/conformance.md on standard input and output:
 *
 *     python -m lottapack.conformance -- node spec/js/conformance.js
 */

import { answerTo, unescape } from "./protocol.js";

/** Lines of standard input; unlike node:readline, which also ends lines at U+2028. */
async function* lines() {
  let rest = "";
  process.stdin.setEncoding("utf8");
  for await (const piece of process.stdin) {
    const found = (rest + piece).split("\n");
    rest = found.pop();
    yield* found;
  }
}

for await (const line of lines()) {
  const answer = await answerTo(line.split("\t").map(unescape));
  process.stdout.write(`${answer.join("\t")}\n`);
}
