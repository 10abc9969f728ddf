/** Arrays as pictures: what the network sees, what moved its answer, and what its layers return. */

import { SIDE } from "./picture.js";

const FOR = [72, 150, 216]; // in colours that stand out on light and on dark
const AGAINST = [226, 125, 38];
const CELLS = 32; // in a line
const WIDEST = 304; // in the page's pixels

/** A row of 28 x 28 pixels, white on black. */
export function showRow(canvas, row) {
  paint(canvas, SIDE, SIDE, (data) => {
    row.forEach((value, n) => data.set([value, value, value, 255], 4 * n));
  });
}

/** The same, darker, and on it how much each pixel spoke for the answer, or against it. */
export function showReasons(canvas, row, reasons) {
  const most = largest(reasons);
  paint(canvas, SIDE, SIDE, (data) => {
    row.forEach((value, n) => {
      const share = Math.sqrt(Math.abs(reasons[n]) / most); // the root shows small ones, too
      const grey = 0.25 * value * (1 - share);
      const [r, g, b] = reasons[n] > 0 ? FOR : AGAINST;
      data.set([grey + r * share, grey + g * share, grey + b * share, 255], 4 * n);
    });
  });
}

/** What a layer returned: a cell for each number, or a picture for each channel of an image (H, W, C). */
export function showLayer(canvas, values, shape) {
  const most = largest(values);
  const isImage = shape.length === 3;
  const [height, width, channels] = isImage ? shape : [1, 1, values.length];
  const columns = isImage ? Math.ceil(Math.sqrt(2 * channels)) : Math.min(channels, CELLS);
  const gap = isImage ? 1 : 0;
  const across = columns * (width + gap) - gap;
  const down = Math.ceil(channels / columns) * (height + gap) - gap;
  paint(canvas, across, down, (data) => {
    for (let n = 0; n < values.length; n++) {
      const channel = n % channels;
      const pixel = (n - channel) / channels;
      const x = (pixel % width) + (channel % columns) * (width + gap);
      const y = Math.floor(pixel / width) + Math.floor(channel / columns) * (height + gap);
      const at = 4 * (y * across + x);
      const [r, g, b] = values[n] > 0 ? FOR : AGAINST;
      data[at] = r;
      data[at + 1] = g;
      data[at + 2] = b;
      data[at + 3] = (255 * Math.abs(values[n])) / most;
    }
  });
  canvas.style.width = `${across * Math.max(1, Math.floor(WIDEST / across))}px`;
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);

function paint(canvas, width, height, fill) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  fill(pixels.data);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
