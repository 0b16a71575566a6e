/** Reads and checks packs outside the page's thread, so that the page stays responsive. One worker checks one file. */

import { fromBlob, fromBytes, open, verify } from "../lottapack.js";
import { download } from "./download.js";
import { refusalOf } from "./errors.js";
import { seldom } from "./progress.js";
import { summarise } from "./summary.js";

let pack;

onmessage = async ({ data: { file, address, maxBytes } }) => {
  try {
    const progress = seldom((done, total) => postMessage({ progress: done / total }));
    if (address) {
      const bytes = await download(address, { progress: (share) => progress(share, 1) });
      postMessage({ downloaded: true });
      pack = await open(fromBytes(bytes));
    }
    if (file) pack = await open(fromBlob(file));
    if (file || address) postMessage({ summary: await summarise(pack) });
    const started = performance.now();
    const result = await verify(pack, { progress, maxBytes });
    postMessage({ result: { ...result, seconds: (performance.now() - started) / 1000 } });
  } catch (error) {
    const refused = refusalOf(error, "file");
    if (refused) postMessage({ refused });
    else postMessage({ crashed: String(error?.stack ?? error) });
  }
};
