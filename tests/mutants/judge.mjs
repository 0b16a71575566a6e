/**
 * Asks changed copies of the reader in JavaScript for cases of the index, all in one process.
 *
 * Each line of standard input is a folder with a copy, a tab, and the numbers of cases. The answer is the number of the
 * first that fails, or -.
 */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const unescape = (field) => (field.includes("\\") ? JSON.parse(`"${field}"`) : field);
const cases = readFileSync("index.tsv", "utf8").trimEnd().split("\n").map((line) => {
  const fields = line.split("\t");
  const split = fields.indexOf("=");
  return { request: fields.slice(1, split).map(unescape), due: fields.slice(split + 1) };
});

async function fails({ request, due }, answerTo) {
  try {
    const answer = await answerTo(request);
    return answer.join("\t") !== due.join("\t"); // with the place, to which our own readers are held
  } catch {
    return true;
  }
}

async function first(folder, numbers) {
  let answerTo;
  try {
    ({ answerTo } = await import(pathToFileURL(`${folder}/protocol.js`)));
  } catch {
    return "import";
  }
  for (const number of numbers) if (await fails(cases[number], answerTo)) return number;
  return "-";
}

process.on("unhandledRejection", () => {});
for await (const line of createInterface({ input: process.stdin })) {
  const [folder, numbers] = line.split("\t");
  process.stdout.write(`${await first(folder, numbers ? numbers.split(",").map(Number) : [])}\n`);
}
