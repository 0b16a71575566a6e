/**
 * The normal quantile with additions, multiplications, divisions and square roots only, which IEEE 754 fixes.
 *
 * So every engine computes the same numbers (`Math.exp` and `Math.log` differ between engines). Rounded to binary32,
 * they are the entries of the normal tables; tables.js compares the SHA-256 before it uses any.
 */

const LN2_HIGH = 6.93147180369123816490e-1; // its lowest 21 bits are 0, so that a multiple of it is exact
const LN2_LOW = 1.90821492927058770002e-10;
const ROOT_OF_2_PI = 2.5066282746310002;
const TAIL_FROM = 2.5;
const STEPS = 40;

/** e**-x for x from 0 to 40. */
function expOfMinus(x) {
  const halvings = Math.floor(x / LN2_HIGH + 0.5);
  const rest = halvings * LN2_HIGH - x + halvings * LN2_LOW;
  let sum = 1;
  for (let n = 18; n > 0; n -= 1) sum = 1 + (sum * rest) / n;
  return sum * 2 ** -halvings;
}

const density = (x) => expOfMinus((x * x) / 2) / ROOT_OF_2_PI;

/** The probability above x >= 0, divided by the density at x (Mills' ratio). */
function mills(x) {
  let fraction = 0;
  for (let n = 200; n > 0; n -= 1) fraction = n / (x + fraction);
  return 1 / (x + fraction);
}

/** The probability between 0 and x >= 0, divided by the density at x: x + x**3 / 3 + x**5 / 15 + ... */
function series(x) {
  let term = x;
  let sum = x;
  for (let n = 3; term > sum * 1e-18; n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return sum;
}

/**
 * The quantile of 1 - above, for 0 < above <= 1/2, by Halley's method from `guess`.
 *
 * Below TAIL_FROM from the series, above it from the continued fraction: each accurate to some 1e-15 there.
 */
export function upperQuantile(above, guess = 0) {
  let x = guess;
  for (let step = 0; step < STEPS; step += 1) {
    const at = density(x);
    const excess = x < TAIL_FROM ? (0.5 - above) / at - series(x) : mills(x) - above / at;
    const move = excess / (1 - (x * excess) / 2);
    const next = Math.max(0, x + Math.min(1, Math.max(-1, move)));
    if (Math.abs(next - x) <= 1e-15 * next) return next;
    x = next;
  }
  return x;
}
