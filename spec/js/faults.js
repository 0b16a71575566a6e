/** Faults of coded bytes. */

/** A coded tensor breaks the rules of its coding. `part`: codes, scales, or empty for the value. */
export class CodingFault extends Error {
  constructor(part, message) {
    super(message);
    this.part = part;
  }
}
