/** Reads and checks packs outside the page's thread, so that the page stays responsive. One worker checks one file. */

import { PackError, fromBlob, open, verify } from "../lottapack.js";
import { summarise } from "./summary.js";

const EVERY = 50; // milliseconds between two reports

let pack;

onmessage = async ({ data: { file, maxBytes } }) => {
  try {
    if (file) {
      pack = await open(fromBlob(file));
      postMessage({ summary: await summarise(pack) });
    }
    let told = 0;
    const progress = (done, total) => {
      if (performance.now() - told < EVERY) return;
      told = performance.now();
      postMessage({ progress: done / total });
    };
    const started = performance.now();
    const result = await verify(pack, { progress, maxBytes });
    postMessage({ result: { ...result, seconds: (performance.now() - started) / 1000 } });
  } catch (error) {
    if (error instanceof PackError) {
      const { section, problems, hint } = error;
      postMessage({ refused: { section, problems: problems.slice(0, 100), count: problems.length, hint } });
    } else if (error instanceof DOMException) {
      const problem = { kind: "length", where: "file", message: `cannot be read: ${error.message}` };
      postMessage({ refused: { section: "container", problems: [problem], count: 1, hint: "Choose the file again." } });
    } else {
      postMessage({ crashed: String(error?.stack ?? error) });
    }
  }
};
