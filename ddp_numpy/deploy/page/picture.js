/**
 * From a picture of digits to the rows of 28 x 28 pixels that a network takes, as MNIST has them.
 *
 * `ink` and `centred` come to the same pixels as ddp_numpy/deploy/handwriting.py: both count in whole numbers.
 * A picture of ink is {ink, width, height}, with ink a Uint8Array of rows.
 */

export const SIDE = 28;
const BOX = 20;
const LEAST_CONTRAST = 32;
const OPAQUE = 128;
const NOISE = 4;
const SMALL = 4; // a mark of less than a fourth of the largest one's size is no digit of its own

const sorted = (values) => Int32Array.from(values).sort();

/** How light (as Pillow's convert("L")) and how opaque the pixels of an ImageData are. */
export function greyAndAlpha({ data, width, height }) {
  const grey = new Uint8Array(width * height);
  const alpha = new Uint8Array(width * height);
  for (let n = 0, at = 0; n < grey.length; n++, at += 4) {
    grey[n] = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
    alpha[n] = data[at + 3];
  }
  return { grey, alpha, width, height };
}

/** How much is drawn at each pixel, whether dark on light, light on dark, or on nothing; null if nothing is drawn. */
export function ink({ grey, alpha, width, height }) {
  const edge = [];
  for (let n = 0; n < grey.length; n++) {
    const [x, y] = [n % width, Math.floor(n / width)];
    if (x === 0 || y === 0 || x === width - 1 || y === height - 1) edge.push(n);
  }
  const middle = (places, values) => sorted(places.map((n) => values[n]))[places.length >> 1];
  let background = middle(edge, grey);
  let noise = 0;
  const opaque = [];
  for (let n = 0; n < alpha.length; n++) if (alpha[n] >= OPAQUE) opaque.push(n);
  const amount = new Int32Array(grey.length);
  if (middle(edge, alpha) < OPAQUE && opaque.length) {
    const greys = sorted(opaque.map((n) => grey[n]));
    if (greys.at(-1) - greys[0] < OPAQUE) {
      amount.set(alpha); // of one colour, whichever that is
    } else {
      background = greys[greys.length >> 1]; // a sheet with something on it
      for (const n of opaque) amount[n] = Math.abs(grey[n] - background);
    }
  } else {
    for (let n = 0; n < grey.length; n++) {
      const differs = background >= OPAQUE ? background - grey[n] : grey[n] - background;
      amount[n] = Math.max(Math.floor((differs * alpha[n]) / 255), 0);
    }
    const differences = sorted(edge.map((n) => Math.abs(grey[n] - background)));
    noise = differences[Math.floor((differences.length * 9) / 10)];
  }
  const peak = amount.reduce((a, b) => Math.max(a, b), 0);
  if (peak < LEAST_CONTRAST) return null;
  const least = Math.min(NOISE * noise, peak >> 1);
  return {
    ink: Uint8Array.from(amount, (value) => Math.floor((Math.max(value - least, 0) * 255) / (peak - least))),
    width,
    height,
  };
}

/** The smallest part of a picture of ink in which all of its ink lies. */
export function cropped({ ink, width, height }) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0, n = 0; y < height; y++) {
    for (let x = 0; x < width; x++, n++) {
      if (!ink[n]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = y + 1;
    }
  }
  const part = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    part.set(ink.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { ink: part, width: right - left, height: bottom - top };
}

/** A digit as 28 x 28 pixels: fitted into 20 x 20, with its centre of mass in the middle. */
export function centred(picture) {
  const { ink, width, height } = cropped(picture);
  const longest = Math.max(width, height);
  const fitted = (side) => Math.max(1, Math.floor((2 * BOX * side + longest) / (2 * longest)));
  const [rows, columns] = [fitted(height), fitted(width)];
  const across = overlaps(width, columns);
  const down = overlaps(height, rows);
  // In units of an area: see _overlaps in handwriting.py.
  const sums = new Float64Array(rows * columns);
  for (const [row, y, share] of down) {
    for (const [column, x, part] of across) sums[row * columns + column] += share * part * ink[y * width + x];
  }
  const area = width * height;
  const small = sums.map((sum) => Math.floor((2 * sum + area) / (2 * area)));
  const top = first(rows, (row) => small.subarray(row * columns, (row + 1) * columns).reduce((a, b) => a + b, 0));
  const left = first(columns, (column) => small.reduce((a, b, n) => (n % columns === column ? a + b : a), 0));
  const image = new Uint8Array(SIDE * SIDE);
  for (let row = 0; row < rows; row++) {
    image.set(small.subarray(row * columns, (row + 1) * columns), (top + row) * SIDE + left);
  }
  return image;
}

/** Which new pixels lie on which old ones, when both fill the same length, and how much: [new, old, length]. */
function overlaps(pixels, fewer) {
  const found = [];
  for (let made = 0; made < fewer; made++) {
    const [start, end] = [made * pixels, (made + 1) * pixels];
    for (let old = Math.floor(start / fewer); old * fewer < end; old++) {
      found.push([made, old, Math.min(end, (old + 1) * fewer) - Math.max(start, old * fewer)]);
    }
  }
  return found;
}

/** The place among 28 of the first of some lines of pixels, at which their centre of mass is in the middle. */
function first(lines, massOf) {
  let [total, moment] = [0, 0];
  for (let line = 0; line < lines; line++) {
    const mass = massOf(line);
    total += mass;
    moment += mass * line;
  }
  const place = -Math.floor((2 * moment + total - SIDE * total) / (2 * total));
  return Math.min(Math.max(place, 0), SIDE - lines);
}

/** The digits on a picture of ink, each as a picture of its own, in the order of reading. */
export function digits(picture) {
  const marks = connected(picture);
  const size = (mark) => Math.max(mark.right - mark.left, mark.bottom - mark.top);
  const largest = Math.max(...marks.map(size));
  const groups = [];
  for (const mark of marks.sort((a, b) => size(b) - size(a))) {
    const near = groups.find((group) => belongTogether(group, mark));
    if (near) join(near, mark);
    else if (size(mark) * SMALL >= largest) groups.push({ ...mark, members: [mark] });
    else join(nearest(groups, mark), mark);
  }
  return inReadingOrder(groups).map((group) => cut(picture, group));
}

/** Marks of ink, whose pixels touch: {pixels, left, top, right, bottom}. */
function connected({ ink, width, height }) {
  const seen = new Uint8Array(ink.length);
  const marks = [];
  for (let start = 0; start < ink.length; start++) {
    if (!ink[start] || seen[start]) continue;
    const mark = { pixels: [start], left: width, top: height, right: 0, bottom: 0 };
    seen[start] = 1;
    for (let at = 0; at < mark.pixels.length; at++) {
      const x = mark.pixels[at] % width;
      const y = (mark.pixels[at] - x) / width;
      mark.left = Math.min(mark.left, x);
      mark.top = Math.min(mark.top, y);
      mark.right = Math.max(mark.right, x + 1);
      mark.bottom = Math.max(mark.bottom, y + 1);
      for (let down = Math.max(y - 1, 0); down <= Math.min(y + 1, height - 1); down++) {
        for (let across = Math.max(x - 1, 0); across <= Math.min(x + 1, width - 1); across++) {
          const next = down * width + across;
          if (ink[next] && !seen[next]) {
            seen[next] = 1;
            mark.pixels.push(next);
          }
        }
      }
    }
    marks.push(mark);
  }
  return marks;
}

function grow(box, other) {
  box.left = Math.min(box.left, other.left);
  box.top = Math.min(box.top, other.top);
  box.right = Math.max(box.right, other.right);
  box.bottom = Math.max(box.bottom, other.bottom);
}

function join(group, mark) {
  group.members.push(mark);
  grow(group, mark);
}

/** The bar of a five and its belly, the two strokes of a four: one above the other, or nearly. */
function belongTogether(a, b) {
  const common = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const narrower = Math.min(a.right - a.left, b.right - b.left);
  const gap = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom);
  const taller = Math.max(a.bottom - a.top, b.bottom - b.top);
  return common * 3 >= narrower && gap * 3 <= taller;
}

function nearest(groups, mark) {
  const centre = (box) => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const [x, y] = centre(mark);
  const distance = (group) => Math.hypot(centre(group)[0] - x, centre(group)[1] - y);
  return groups.reduce((a, b) => (distance(b) < distance(a) ? b : a));
}

/** Line by line, and from left to right: a digit whose middle is above another's bottom stands in its line. */
function inReadingOrder(groups) {
  const lines = [];
  for (const group of [...groups].sort((a, b) => a.top + a.bottom - b.top - b.bottom)) {
    const line = lines.at(-1);
    if (line && (group.top + group.bottom) / 2 < Math.max(...line.map((one) => one.bottom))) line.push(group);
    else lines.push([group]);
  }
  return lines.flatMap((line) => line.sort((a, b) => a.left - b.left));
}

function cut({ ink, width }, { left, top, right, bottom, members }) {
  const part = new Uint8Array((right - left) * (bottom - top));
  for (const { pixels } of members) {
    for (const n of pixels) part[(Math.floor(n / width) - top) * (right - left) + (n % width) - left] = ink[n];
  }
  return { ink: part, width: right - left, height: bottom - top, left, top };
}
