/** A worker that generates weights; weights.js starts several. */

import { Pack, PackError, fromBytes } from "../lottapack.js";
import { weightsOf } from "./weights.js";

let pack;

onmessage = async ({ data: { opened, bytes, job } }) => {
  if (opened) {
    pack = new Pack(fromBytes(bytes), opened);
    return;
  }
  try {
    const values = await weightsOf(pack, job);
    postMessage({ values }, [...new Set(values.map(([, { buffer }]) => buffer))]);
  } catch (error) {
    if (error instanceof PackError) {
      const { section, problems, hint } = error;
      postMessage({ refused: { section, problems, hint } });
    } else postMessage({ failed: { name: error.name, message: error.message } });
  }
};
