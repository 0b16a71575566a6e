/** From a drawing to the image that a model was trained on: cropped, centred, grey levels from 0 to 1. */

const SMALL = 16; // images of digits up to here fill their square, as scikit-learn's do; larger ones have MNIST's margin
const INK = 0.1;

/**
 * `ink`: Float32Array of size * size grey levels from 0 to 1, row by row; `side`: of the model's image.
 * Returns a Float32Array of side * side; all zeros for an empty drawing.
 */
export function preprocess(ink, size, side) {
  const box = boxOf(ink, size);
  const image = new Float32Array(side * side);
  if (!box) return image;
  const { left, top, width, height } = box;
  const fill = side <= SMALL ? side : Math.round((side * 20) / 28);
  const scale = Math.max(width, height) / fill; // pixels of the drawing to one of the image
  let [x, y] = [left + width / 2, top + height / 2];
  if (side > SMALL) [x, y] = centreOf(ink, size);
  const [from, down] = [x - (side * scale) / 2, y - (side * scale) / 2];
  for (let row = 0; row < side; row += 1) {
    for (let column = 0; column < side; column += 1) {
      image[row * side + column] = mean(ink, size, from + column * scale, down + row * scale, scale);
    }
  }
  return image;
}

function boxOf(ink, size) {
  let [left, top, right, bottom] = [size, size, -1, -1];
  ink.forEach((level, index) => {
    if (level < INK) return;
    const [column, row] = [index % size, Math.floor(index / size)];
    [left, right] = [Math.min(left, column), Math.max(right, column)];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
  });
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** The centre of mass. */
function centreOf(ink, size) {
  let [sum, across, down] = [0, 0, 0];
  ink.forEach((level, index) => {
    sum += level;
    across += level * ((index % size) + 0.5);
    down += level * (Math.floor(index / size) + 0.5);
  });
  return [across / sum, down / sum];
}

/** The mean of the ink in a square, weighted by how much of each pixel lies in it; nothing lies outside the drawing. */
function mean(ink, size, left, top, width) {
  const overlap = (at, from) => Math.max(0, Math.min(at + 1, from + width) - Math.max(at, from));
  const range = (from) => [Math.max(0, Math.floor(from)), Math.min(size, Math.ceil(from + width))];
  const [[column0, column1], [row0, row1]] = [range(left), range(top)];
  let sum = 0;
  for (let row = row0; row < row1; row += 1) {
    const part = overlap(row, top);
    for (let column = column0; column < column1; column += 1) sum += ink[row * size + column] * part * overlap(column, left);
  }
  return sum / width ** 2;
}

/** Shares that add up to 1, from logits. */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}
