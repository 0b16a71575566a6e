/** Reports of progress, few enough that the page can draw each of them. */

const EVERY = 50; // milliseconds between two reports

/** A function of progress's arguments that passes them on to `report`, unless the last ones are just told. */
export function seldom(report) {
  let told = -Infinity;
  return (...progress) => {
    if (performance.now() - told < EVERY) return;
    told = performance.now();
    report(...progress);
  };
}
