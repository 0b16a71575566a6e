/** SHA-256 (FIPS 180-4), in pieces. WebCrypto only hashes whole buffers, and only in secure contexts: there, digest() uses it. */

const K = new Int32Array(64);
const START = new Int32Array(8);
{
  // Fractional parts of the cube and square roots of the first primes, taken exactly.
  const root = (value, power) => {
    let low = 0n;
    let high = 1n << 48n;
    while (high - low > 1n) {
      const middle = (low + high) >> 1n;
      if (middle ** power <= value) low = middle;
      else high = middle;
    }
    return Number(BigInt.asIntN(32, low));
  };
  const primes = [];
  for (let n = 2n; primes.length < 64; n += 1n) if (primes.every((p) => n % p)) primes.push(n);
  primes.forEach((prime, i) => {
    K[i] = root(prime << 96n, 3n);
    if (i < 8) START[i] = root(prime << 64n, 2n);
  });
}

const big0 = (x) => ((x >>> 2) | (x << 30)) ^ ((x >>> 13) | (x << 19)) ^ ((x >>> 22) | (x << 10));
const big1 = (x) => ((x >>> 6) | (x << 26)) ^ ((x >>> 11) | (x << 21)) ^ ((x >>> 25) | (x << 7));

/** An incremental hash: call update(bytes) any number of times, then hex() or digest() once. */
export class Sha256 {
  constructor() {
    this.state = START.slice();
    this.words = new Int32Array(64);
    this.rest = new Uint8Array(64);
    this.held = 0;
    this.length = 0;
  }

  update(bytes) {
    this.length += bytes.length;
    let at = 0;
    if (this.held) {
      at = Math.min(64 - this.held, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.held);
      this.held += at;
      if (this.held < 64) return this;
      this.blocks(this.rest, 0, 64);
      this.held = 0;
    }
    const end = bytes.length - ((bytes.length - at) % 64); // not by bits: an array may be longer than 2**31
    this.blocks(bytes, at, end);
    this.held = bytes.length - end;
    this.rest.set(bytes.subarray(end));
    return this;
  }

  digest() {
    const { length } = this;
    const padding = new Uint8Array(((119 - (length % 64)) % 64) + 9);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(length / 0x20000000));
    view.setUint32(padding.length - 4, length << 3);
    this.update(padding);
    const result = new Uint8Array(32);
    const out = new DataView(result.buffer);
    this.state.forEach((word, i) => out.setInt32(4 * i, word));
    return result;
  }

  hex() {
    return Array.from(this.digest(), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  blocks(bytes, begin, end) {
    const { state, words: w } = this;
    let [a0, b0, c0, d0, e0, f0, g0, h0] = state;
    for (let at = begin; at < end; at += 64) {
      for (let i = 0, p = at; i < 16; i += 1, p += 4) {
        w[i] = (bytes[p] << 24) | (bytes[p + 1] << 16) | (bytes[p + 2] << 8) | bytes[p + 3];
      }
      for (let i = 16; i < 64; i += 1) {
        const x = w[i - 15];
        const y = w[i - 2];
        const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
        const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
        w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
      }
      let a = a0, b = b0, c = c0, d = d0, e = e0, f = f0, g = g0, h = h0;
      for (let i = 0, t = 0; i < 64; i += 8) {
        // Eight rounds with rotated names, so that no value is moved.
        t = (h + big1(e) + (g ^ (e & (f ^ g))) + K[i] + w[i]) | 0;
        d = (d + t) | 0;
        h = (t + big0(a) + ((a & b) | (c & (a | b)))) | 0;
        t = (g + big1(d) + (f ^ (d & (e ^ f))) + K[i + 1] + w[i + 1]) | 0;
        c = (c + t) | 0;
        g = (t + big0(h) + ((h & a) | (b & (h | a)))) | 0;
        t = (f + big1(c) + (e ^ (c & (d ^ e))) + K[i + 2] + w[i + 2]) | 0;
        b = (b + t) | 0;
        f = (t + big0(g) + ((g & h) | (a & (g | h)))) | 0;
        t = (e + big1(b) + (d ^ (b & (c ^ d))) + K[i + 3] + w[i + 3]) | 0;
        a = (a + t) | 0;
        e = (t + big0(f) + ((f & g) | (h & (f | g)))) | 0;
        t = (d + big1(a) + (c ^ (a & (b ^ c))) + K[i + 4] + w[i + 4]) | 0;
        h = (h + t) | 0;
        d = (t + big0(e) + ((e & f) | (g & (e | f)))) | 0;
        t = (c + big1(h) + (b ^ (h & (a ^ b))) + K[i + 5] + w[i + 5]) | 0;
        g = (g + t) | 0;
        c = (t + big0(d) + ((d & e) | (f & (d | e)))) | 0;
        t = (b + big1(g) + (a ^ (g & (h ^ a))) + K[i + 6] + w[i + 6]) | 0;
        f = (f + t) | 0;
        b = (t + big0(c) + ((c & d) | (e & (c | d)))) | 0;
        t = (a + big1(f) + (h ^ (f & (g ^ h))) + K[i + 7] + w[i + 7]) | 0;
        e = (e + t) | 0;
        a = (t + big0(b) + ((b & c) | (d & (b | c)))) | 0;
      }
      a0 = (a0 + a) | 0;
      b0 = (b0 + b) | 0;
      c0 = (c0 + c) | 0;
      d0 = (d0 + d) | 0;
      e0 = (e0 + e) | 0;
      f0 = (f0 + f) | 0;
      g0 = (g0 + g) | 0;
      h0 = (h0 + h) | 0;
    }
    state.set([a0, b0, c0, d0, e0, f0, g0, h0]);
  }
}

/** The SHA-256 of some bytes in lower-case hexadecimal digits. */
export function sha256(bytes) {
  return new Sha256().update(bytes).hex();
}

const WORTH = 1 << 12; // bytes from which asking the engine is quicker than hashing here

/** The same, by the engine's own implementation where it has one: many times as fast. */
export async function digest(bytes) {
  const { subtle } = globalThis.crypto ?? {};
  if (!subtle || bytes.length < WORTH) return sha256(bytes);
  const found = new Uint8Array(await subtle.digest("SHA-256", bytes));
  return Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
