/**
 * A network of ddp_numpy, for one row at a time: the class of a row, and which of its numbers moved the answer.
 *
 * Images are flat arrays in the order (H, W, C), as in the Python package. All arithmetic is in 64 bits.
 * Each layer is made with its description and the shape of a row, takes its weights from two readers, and has
 *   forward(X)    X -> Y, and keeps what backward needs
 *   backward(dY)  the gradient at Y -> the gradient at X
 */

const product = (shape) => shape.reduce((a, b) => a * b, 1);
const pair = (value) => (Array.isArray(value) ? value : [value, value]);

/** Takes arrays from a vector, one behind the other, in the order in which the package lays them there. */
class Reader {
  constructor(vector) {
    this.vector = vector;
    this.at = 0;
  }

  take(size) {
    if (this.at + size > this.vector.length) throw new Error("the weights are of another network");
    this.at += size;
    return Float64Array.from(this.vector.subarray(this.at - size, this.at));
  }
}

/** Y = X W + b. */
class Dense {
  constructor({ outputs }, [inputs], params) {
    this.shape = [outputs];
    this.W = params.take(inputs * outputs);
    this.b = params.take(outputs);
  }

  forward(X) {
    const Y = Float64Array.from(this.b);
    for (let i = 0, at = 0; i < X.length; i++, at += Y.length) {
      const x = X[i];
      if (x === 0) continue; // most pixels of a digit are
      for (let o = 0; o < Y.length; o++) Y[o] += x * this.W[at + o];
    }
    return Y;
  }

  backward(dY) {
    const dX = new Float64Array(this.W.length / dY.length);
    for (let i = 0, at = 0; i < dX.length; i++) {
      for (let o = 0; o < dY.length; o++, at++) dX[i] += dY[o] * this.W[at];
    }
    return dX;
  }
}

/** Where the windows of a convolution or a pool stand on an image: as in ddp_numpy/nn/windows.py. */
class Windows {
  constructor([H, W, C], kernel, stride, padding, dilation = 1) {
    Object.assign(this, { H, W, C, kernel: pair(kernel), stride: pair(stride), dilation: pair(dilation) });
    this.before = [];
    this.outputs = [];
    for (const [axis, size] of [H, W].entries()) {
      const step = this.stride[axis];
      const span = this.dilation[axis] * (this.kernel[axis] - 1) + 1;
      const border = padding === "same" ? null : 2 * (padding === "valid" ? 0 : padding);
      const count = border === null ? Math.ceil(size / step) : Math.floor((size + border - span) / step) + 1;
      const total = border === null ? Math.max((count - 1) * step + span - size, 0) : border;
      this.before.push(Math.floor(total / 2));
      this.outputs.push(count);
    }
    this.offsets = this.#offsets();
  }

  /** For each window, the places of its pixels' first numbers in the image, -1 for the border: (H', W', KH, KW). */
  #offsets() {
    const [rows, columns] = this.outputs;
    const [height, width] = this.kernel;
    const offsets = new Int32Array(rows * columns * height * width);
    let at = 0;
    for (let h = 0; h < rows; h++) {
      for (let w = 0; w < columns; w++) {
        for (let i = 0; i < height; i++) {
          const y = h * this.stride[0] + i * this.dilation[0] - this.before[0];
          for (let j = 0; j < width; j++, at++) {
            const x = w * this.stride[1] + j * this.dilation[1] - this.before[1];
            const inside = y >= 0 && y < this.H && x >= 0 && x < this.W;
            offsets[at] = inside ? (y * this.W + x) * this.C : -1;
          }
        }
      }
    }
    return offsets;
  }
}

/** Convolution: each window's pixels, times W (KH, KW, C, F), plus b (F). */
class Conv2D {
  constructor({ filters, kernel, stride, padding, dilation, groups }, shape, params) {
    this.windows = new Windows(shape, kernel, stride, padding, dilation);
    this.shape = [...this.windows.outputs, filters];
    this.inputs = product(shape);
    this.groups = groups;
    this.places = product(this.windows.kernel);
    this.channels = shape[2] / groups; // that a filter sees
    this.filters = filters;
    this.W = params.take(this.places * this.channels * filters);
    this.b = params.take(filters);
    this.seen = new Float64Array(this.inputs); // each pixel's numbers that are not 0,
    this.rows = new Int32Array(this.inputs); // where the rows of W that belong to them begin,
    this.ends = new Int32Array(this.inputs); // and where they end
  }

  forward(X) {
    return this.groups === 1 ? this.#forwardAll(X) : this.#forwardEach(X);
  }

  /** Behind a ReLU, half of the numbers are 0 and left out; the others are added up for eight filters at a time. */
  #forwardAll(X) {
    const { W, b, filters, places, channels, seen, rows, ends, windows } = this;
    this.#look(X);
    const { offsets } = windows;
    const block = channels * filters;
    const Y = new Float64Array(product(this.shape));
    for (let window = 0, to = 0; to < Y.length; window += places, to += filters) {
      let f = 0;
      for (; f + 8 <= filters; f += 8) {
        let y0 = b[f];
        let y1 = b[f + 1];
        let y2 = b[f + 2];
        let y3 = b[f + 3];
        let y4 = b[f + 4];
        let y5 = b[f + 5];
        let y6 = b[f + 6];
        let y7 = b[f + 7];
        for (let place = 0, first = f; place < places; place++, first += block) {
          const from = offsets[window + place];
          if (from < 0) continue;
          const end = ends[from];
          for (let n = from; n < end; n++) {
            const x = seen[n];
            const at = rows[n] + first;
            y0 += x * W[at];
            y1 += x * W[at + 1];
            y2 += x * W[at + 2];
            y3 += x * W[at + 3];
            y4 += x * W[at + 4];
            y5 += x * W[at + 5];
            y6 += x * W[at + 6];
            y7 += x * W[at + 7];
          }
        }
        Y[to + f] = y0;
        Y[to + f + 1] = y1;
        Y[to + f + 2] = y2;
        Y[to + f + 3] = y3;
        Y[to + f + 4] = y4;
        Y[to + f + 5] = y5;
        Y[to + f + 6] = y6;
        Y[to + f + 7] = y7;
      }
      for (; f < filters; f++) {
        let y = b[f];
        for (let place = 0, first = f; place < places; place++, first += block) {
          const from = offsets[window + place];
          if (from < 0) continue;
          for (let n = from; n < ends[from]; n++) y += seen[n] * W[rows[n] + first];
        }
        Y[to + f] = y;
      }
    }
    return Y;
  }

  /** List each pixel's numbers that are not 0: in `seen`, from where the pixel begins in X up to `ends` at that place. */
  #look(X) {
    const { channels, filters, seen, rows, ends } = this;
    for (let pixel = 0; pixel < X.length; pixel += channels) {
      let count = pixel;
      for (let c = 0; c < channels; c++) {
        const x = X[pixel + c];
        if (x === 0) continue;
        seen[count] = x;
        rows[count++] = c * filters;
      }
      ends[pixel] = count;
    }
  }

  /** Depthwise: filter f sees the channel floor(f / (F / groups)) alone. */
  #forwardEach(X) {
    const Y = new Float64Array(product(this.shape));
    this.#eachProduct((from, weight, to) => (Y[to] += X[from] * this.W[weight]));
    for (let to = 0; to < Y.length; to++) Y[to] += this.b[to % this.filters];
    return Y;
  }

  backward(dY) {
    const dX = new Float64Array(this.inputs);
    this.#eachProduct((from, weight, to) => (dX[from] += dY[to] * this.W[weight]));
    return dX;
  }

  #eachProduct(visit) {
    const { places, channels, filters, groups } = this;
    const each = filters / groups;
    const { offsets } = this.windows;
    for (let window = 0, to = 0; window < offsets.length; window += places, to += filters) {
      for (let place = 0; place < places; place++) {
        const from = offsets[window + place];
        if (from < 0) continue;
        for (let c = 0; c < channels; c++) {
          const weight = (place * channels + c) * filters;
          for (let f = 0; f < filters; f++) visit(from + c + (groups > 1 ? Math.floor(f / each) : 0), weight + f, to + f);
        }
      }
    }
  }
}

/** What the two pools share. */
class Pool {
  constructor({ size, stride, padding }, shape) {
    this.windows = new Windows(shape, size, stride, padding);
    this.shape = [...this.windows.outputs, shape[2]];
    this.inputs = product(shape);
    this.places = product(this.windows.kernel);
  }

  /** Visit each number that leaves the pool, with a list of the places of those that it is made of. */
  eachWindow(visit) {
    const { offsets, C } = this.windows;
    for (let window = 0, to = 0; window < offsets.length; window += this.places) {
      const inside = offsets.subarray(window, window + this.places).filter((from) => from >= 0);
      for (let c = 0; c < C; c++, to++) visit(inside, c, to);
    }
  }
}

/** The largest of each window; of equals, the first. */
class MaxPool2D extends Pool {
  forward(X) {
    const Y = new Float64Array(product(this.shape));
    this.winners = new Int32Array(Y.length);
    this.eachWindow((inside, c, to) => {
      let best = inside[0] + c;
      for (const from of inside) if (X[from + c] > X[best]) best = from + c;
      this.winners[to] = best;
      Y[to] = X[best];
    });
    return Y;
  }

  backward(dY) {
    const dX = new Float64Array(this.inputs);
    for (let to = 0; to < dY.length; to++) dX[this.winners[to]] += dY[to];
    return dX;
  }
}

/** The mean of each window, border left out. */
class AvgPool2D extends Pool {
  forward(X) {
    const Y = new Float64Array(product(this.shape));
    this.eachWindow((inside, c, to) => {
      for (const from of inside) Y[to] += X[from + c] / inside.length;
    });
    return Y;
  }

  backward(dY) {
    const dX = new Float64Array(this.inputs);
    this.eachWindow((inside, c, to) => {
      for (const from of inside) dX[from + c] += dY[to] / inside.length;
    });
    return dX;
  }
}

/** The mean of all pixels. */
class GlobalAvgPool {
  constructor(_, [H, W, C]) {
    this.shape = [C];
    this.pixels = H * W;
  }

  forward(X) {
    const Y = new Float64Array(this.shape[0]);
    for (let n = 0; n < X.length; n++) Y[n % Y.length] += X[n] / this.pixels;
    return Y;
  }

  backward(dY) {
    return Float64Array.from({ length: this.pixels * dY.length }, (_, n) => dY[n % dY.length] / this.pixels);
  }
}

/** With the mean and variance of training, each channel is only scaled and shifted. */
class BatchNorm {
  constructor({ epsilon }, shape, params, buffers) {
    this.shape = shape;
    const [gamma, beta] = [params.take(shape.at(-1)), params.take(shape.at(-1))];
    const [mean, variance] = [buffers.take(shape.at(-1)), buffers.take(shape.at(-1))];
    this.gain = gamma.map((value, c) => value / Math.sqrt(variance[c] + epsilon));
    this.shift = beta.map((value, c) => value - mean[c] * this.gain[c]);
  }

  forward(X) {
    const { gain, shift } = this;
    const Y = new Float64Array(X.length);
    for (let n = 0; n < Y.length; ) {
      for (let c = 0; c < gain.length; c++, n++) Y[n] = X[n] * gain[c] + shift[c];
    }
    return Y;
  }

  backward(dY) {
    return dY.map((dy, n) => dy * this.gain[n % this.gain.length]);
  }
}

/** Over the channels of each pixel: xhat = (x - mean) / deviation, Y = gamma xhat + beta. */
class LayerNorm {
  constructor({ epsilon }, shape, params) {
    this.shape = shape;
    this.epsilon = epsilon;
    this.gamma = params.take(shape.at(-1));
    this.beta = params.take(shape.at(-1));
  }

  forward(X) {
    const { gamma, beta, epsilon } = this;
    const Y = new Float64Array(X.length);
    this.normal = new Float64Array(X.length);
    this.factors = [];
    for (let at = 0; at < X.length; at += gamma.length) {
      const line = X.subarray(at, at + gamma.length);
      const mean = line.reduce((a, b) => a + b, 0) / line.length;
      const variance = line.reduce((sum, x) => sum + (x - mean) ** 2, 0) / line.length;
      const factor = 1 / Math.sqrt(variance + epsilon);
      this.factors.push(factor);
      line.forEach((x, c) => {
        this.normal[at + c] = (x - mean) * factor;
        Y[at + c] = this.normal[at + c] * gamma[c] + beta[c];
      });
    }
    return Y;
  }

  /** dX = factor (g - mean(g) - xhat mean(g xhat)), with g = gamma dY. */
  backward(dY) {
    const size = this.gamma.length;
    const g = dY.map((dy, n) => dy * this.gamma[n % size]);
    return g.map((value, n) => {
      const line = Math.floor(n / size);
      const [from, to] = [line * size, (line + 1) * size];
      const normal = this.normal.subarray(from, to);
      const gs = g.subarray(from, to);
      const mean = gs.reduce((a, b) => a + b, 0) / size;
      const along = gs.reduce((sum, v, c) => sum + v * normal[c], 0) / size;
      return this.factors[line] * (value - mean - normal[n - from] * along);
    });
  }
}

/** Layers that take each number on its own. derivative(x, y): of y = f(x). */
const elementwise = (f, derivative) =>
  class {
    constructor(config, shape) {
      this.config = config;
      this.shape = shape;
    }

    forward(X) {
      this.X = X;
      this.Y = new Float64Array(X.length);
      for (let n = 0; n < X.length; n++) this.Y[n] = f(X[n], this.config);
      return this.Y;
    }

    backward(dY) {
      return dY.map((dy, n) => dy * derivative(this.X[n], this.Y[n], this.config));
    }
  };

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** The probability that a normal number is below x, to 1e-7: Abramowitz and Stegun, 26.2.17. */
function normalBelow(x) {
  const t = 1 / (1 + 0.2316419 * Math.abs(x));
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const tail = (Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return x < 0 ? tail : 1 - tail;
}

const nearly = (x) => Math.sqrt(8 / Math.PI) * (x + 0.044715 * x ** 3);

const gelu = (x, { approximate }) => x * (approximate ? sigmoid(nearly(x)) : normalBelow(x));

function geluSlope(x, _, { approximate }) {
  if (!approximate) return normalBelow(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
  const S = sigmoid(nearly(x));
  return S + x * S * (1 - S) * Math.sqrt(8 / Math.PI) * (1 + 3 * 0.044715 * x * x);
}

/** Layers that leave the numbers as they are, in rows of this shape or of another. */
class Reshape {
  constructor({ type, shape }, inputs) {
    this.shape = type === "Reshape" ? shape : type === "Flatten" ? [product(inputs)] : inputs;
  }

  forward(X) {
    return X;
  }

  backward(dY) {
    return dY;
  }
}

/** Y = layers(X) + shortcut(X). */
class Residual {
  constructor({ layers, shortcut }, shape, params, buffers) {
    this.inner = new Chain(layers, shape, params, buffers);
    this.around = new Chain(shortcut ?? [], shape, params, buffers);
    this.shape = this.inner.shape;
  }

  forward(X) {
    const around = this.around.forward(X);
    const Y = Float64Array.from(this.inner.forward(X));
    for (let n = 0; n < Y.length; n++) Y[n] += around[n];
    return Y;
  }

  backward(dY) {
    const around = this.around.backward(dY);
    return this.inner.backward(dY).map((dx, n) => dx + around[n]);
  }
}

/** Layers in turn. */
class Chain {
  constructor(descriptions, shape, params, buffers) {
    this.shape = shape;
    this.layers = descriptions.map((description) => {
      if (!(description.type in LAYERS)) throw new Error(`a layer ${description.type} can't be shown here`);
      const layer = new LAYERS[description.type](description, this.shape, params, buffers);
      this.shape = layer.shape;
      return layer;
    });
  }

  forward(X) {
    return this.layers.reduce((values, layer) => layer.forward(values), X);
  }

  backward(dY) {
    return this.layers.reduceRight((gradient, layer) => layer.backward(gradient), dY);
  }
}

const LAYERS = {
  Augment: Reshape,
  AvgPool2D,
  BatchNorm,
  Conv2D,
  Dense,
  Dropout: Reshape,
  Flatten: Reshape,
  GELU: elementwise(gelu, geluSlope),
  GlobalAvgPool,
  LayerNorm,
  LeakyReLU: elementwise((x, { slope }) => (x > 0 ? x : slope * x), (x, _, { slope }) => (x > 0 ? 1 : slope)),
  MaxPool2D,
  ReLU: elementwise((x) => (x > 0 ? x : 0), (x) => (x > 0 ? 1 : 0)),
  Reshape,
  Residual,
  Sigmoid: elementwise(sigmoid, (_, y) => y * (1 - y)),
  SiLU: elementwise((x) => x * sigmoid(x), (x, y) => sigmoid(x) + y * (1 - sigmoid(x))),
  Tanh: elementwise(Math.tanh, (_, y) => 1 - y * y),
};

/** Logits as probabilities. */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

export class Network {
  /** description: as Python's Sequential.description() makes it; weights: params and then buffers, Float32Array. */
  constructor(description, weights) {
    const numbers = product(description.input_shape);
    const each = (value) => Float64Array.from({ length: numbers }, (_, n) => (Array.isArray(value) ? value[n] : value));
    this.divisor = each(description.input_divisor);
    this.shift = each(description.input_shift ?? 0);
    this.descriptions = description.layers;
    // Layers take parameters from the front, and what they keep besides from behind these.
    const params = new Reader(weights.subarray(0, description.parameters));
    const buffers = new Reader(weights.subarray(description.parameters));
    this.chain = new Chain(description.layers, description.input_shape, params, buffers);
    if (params.at + buffers.at !== weights.length) throw new Error("the weights are of another network");
  }

  /** Raw features -> logits. What each layer returned is then in `activations`. */
  forward(features) {
    let values = Float64Array.from(features, (value, n) => (value - this.shift[n]) / this.divisor[n]);
    this.activations = this.chain.layers.map((layer) => (values = layer.forward(values)));
    return values;
  }

  /** How much each raw feature of the last row moves a logit, were it changed by 1: its gradient. */
  gradient(output) {
    const dY = new Float64Array(product(this.chain.shape));
    dY[output] = 1;
    return this.chain.backward(dY).map((gradient, n) => gradient / this.divisor[n]);
  }
}
