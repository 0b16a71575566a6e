/** The 64-bit checksum of a generated tensor (spec/v1/fingerprint.md), with 32-bit integers. */

import { mulhi } from "./stream.js";

const [G0, G1] = [0x7f4a7c15 | 0, 0x9e3779b9 | 0];
const [A0, A1] = [0x1ce4e5b9 | 0, 0xbf58476d | 0];
const [B0, B1] = [0x133111eb | 0, 0x94d049bb | 0];
const MASK = 2n ** 64n - 1n;
const GOLDEN = 0x9e3779b97f4a7c15n;

/** The sum over a piece of a tensor as a bigint. `bits`: Uint32Array or Uint16Array; `start`: its first index (bigint). */
export function fingerprint(bits, start = 0n) {
  const first = (start * GOLDEN) & MASK;
  let g0 = Number(first & 0xffffffffn) | 0;
  let g1 = Number(first >> 32n) | 0;
  let sum0 = 0;
  let sum1 = 0;
  for (let i = 0; i < bits.length; i += 1) {
    let low = bits[i] ^ g0;
    let high = g1;
    // z = (z ^ (z >> 30)) * A
    low ^= (low >>> 30) | (high << 2);
    high ^= high >>> 30;
    high = (mulhi(A0, low) + Math.imul(A1, low) + Math.imul(A0, high)) | 0;
    low = Math.imul(A0, low);
    // z = (z ^ (z >> 27)) * B
    low ^= (low >>> 27) | (high << 5);
    high ^= high >>> 27;
    high = (mulhi(B0, low) + Math.imul(B1, low) + Math.imul(B0, high)) | 0;
    low = Math.imul(B0, low);
    // sum += z ^ (z >> 31)
    low ^= (low >>> 31) | (high << 1);
    high ^= high >>> 31;
    sum0 = (sum0 + low) | 0;
    sum1 = (sum1 + high + (sum0 >>> 0 < low >>> 0 ? 1 : 0)) | 0;
    g0 = (g0 + G0) | 0;
    g1 = (g1 + G1 + (g0 >>> 0 < G0 >>> 0 ? 1 : 0)) | 0;
  }
  return (BigInt(sum1 >>> 0) << 32n) | BigInt(sum0 >>> 0);
}

/** Sixteen lower-case hexadecimal digits. */
export function fingerprintHex(sum) {
  return (sum & MASK).toString(16).padStart(16, "0");
}
