"""Augmentation: images that are moved, turned, scaled, slanted, bent and partly erased at random while training."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.randomness import RowStream
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape
from ddp_numpy.nn.windows import not_images

ERASED_AREA = (0.02, 0.2)
"""The least and the largest share of an image that is erased."""
ERASED_ASPECT = 10 / 3
"""How many times as high as wide, or as wide as high, an erased rectangle may be."""

_RANGES = {
    "shift": schema.Real(0, 10_000),
    "rotation": schema.Real(0, 180),
    "scale": schema.Real(0, 0.9),
    "shear": schema.Real(0, 10),
    "elastic": schema.Real(0, 10_000),
    "smoothness": schema.Real(0.1, 10_000),
    "erase": schema.Real(0, 1),
}
# A row draws these ten numbers, some that are left over, and one for each pixel if there is elastic distortion.
_SHIFT_Y, _SHIFT_X, _ROTATION, _SCALE, _SHEAR, _ERASE, _AREA, _ASPECT, _TOP, _LEFT = range(10)
_HEAD = RowStream.whole(10)
_BLOCK_BYTES = 256 * 1024  # of one number a pixel. Half of it takes 1.2 times as long (LOG: augmentation)
_BLOCK_IMAGES = 64
_EXACT = 2**24  # up to here float32 has all whole numbers
_LEVELS = 4096  # of an elastic draw


class Augment(Layer):
    """In training each image (H, W, C) is changed at random; evaluation passes images on as they are.

    What becomes of an image depends on the seed, the step, the layer and the image's number in its global batch, so it
    is the same on any number of ranks. It stands before the first layer with parameters.

    An image is slanted, turned by an angle a, scaled by s, all about its centre, and shifted by t. The layer goes the
    other way: for each pixel p of Y it looks up where in X the pixel comes from. With p counted from the centre, and
    rows growing downwards, a turn against the clock takes q = (q_y, q_x) to

        p_y = cos(a) q_y - sin(a) q_x,   p_x = sin(a) q_y + cos(a) q_x.

    So q_y = (cos(a) (p - t)_y + sin(a) (p - t)_x) / s, and q_x is the same with -sin(a), cos(a). The slant moves row
    q_y by shear * q_y to the right, so shear * q_y is taken off q_x. To this place the elastic displacement is added,
    and Y gets the four pixels around it, weighted by how near they are (bilinear interpolation). Outside X all is 0.

    Elastic distortion (Simard, Steinkraus and Platt, ICDAR 2003): each pixel gets an independent number from -1 to 1
    for each direction, and these are smoothed by a Gaussian along rows and along columns: N becomes D = G N G'^T.
    Here every row g of the matrices G and G' has the length 1, also at the edge of the image, where a part of the
    Gaussian is cut off. A number from -1 to 1 has the variance 1/3, so D has the variance |g|² |g'|² / 3 = 1/3 at each
    pixel, and sqrt(3) * elastic * D a root mean square of `elastic` pixels in each direction. In the paper the
    Gaussian has the sum 1, so its squares have the sum 1 / (4 pi smoothness²), and alpha is 2 sqrt(3 pi) smoothness
    times `elastic`: its alpha = 34 with 4 pixels is elastic = 1.4.

    Random erasing (Zhong et al., AAAI 2020, arXiv:1708.04896): a rectangle of Y becomes 0, of a random area, shape and
    place within the image.
    """

    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(
        self,
        shift: float = 0.0,
        rotation: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        elastic: float = 0.0,
        smoothness: float = 4.0,
        erase: float = 0.0,
    ) -> None:
        """All but the last three are the most that is drawn, from minus that to plus that; 0 leaves a change out.

        shift: in pixels, along each axis. rotation: in degrees. scale: 0.1 is from 0.9 to 1.1 times as large. shear:
        how many pixels a row moves to the side against the next one; 0.2 is a slant of 11 degrees. elastic: the root
        mean square of the distortion in pixels, in each direction; smoothness: the standard deviation of the Gaussian,
        in pixels. erase: the share of images of which a rectangle is erased. Raises InputError for what can't be.
        """
        values = dict(zip(_RANGES, (shift, rotation, scale, shear, elastic, smoothness, erase), strict=True))
        for name, value in values.items():
            schema.check(value, _RANGES[name], f"Augment: {name}")
        self.options = {name: float(value) for name, value in values.items()}
        self._moves = any((shift, rotation, scale, shear, elastic))

    def config(self) -> dict[str, Any]:
        return dict(self.options)

    def __str__(self) -> str:
        used = [name for name, value in self.options.items() if value and name != "smoothness"]
        return f"augment ({', '.join(f'{name} {self.options[name]:g}' for name in used) or 'nothing'})"

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        if len(input_shape) != 3:
            raise InputError(not_images(f"layer {self.number} (Augment)", input_shape))
        height, width, _ = self._image = input_shape
        self.outputs, self.input_gradients = RowBuffer(input_shape, dtype), RowBuffer(input_shape, dtype)
        # Images with a border of zeros, which is outside. Those of a block lie one behind the other.
        bordered, plane = (height + 2, width + 2), (height, width)
        size = math.prod(bordered)
        self._bordered, self._neighbours = RowBuffer(bordered, dtype, fill=0), RowBuffer(plane, dtype)
        numbers = np.dtype(dtype if size < _EXACT else np.float64)  # of places, and of where they lie in memory
        images = _BLOCK_BYTES // (math.prod(plane) * numbers.itemsize)
        self._images = min(max(images, 1), _BLOCK_IMAGES)
        self._starts = np.arange(0, self._images * size, size, dtype=np.int32 if size < _EXACT else np.int64)[:, None]
        self._shifts = (0, 1, width + 2, width + 3)  # from a pixel to the one beside it, below it and both
        self._places, self._corners = RowBuffer(plane, numbers), RowBuffer(plane, numbers)
        self._whole, self._where = RowBuffer(plane, self._starts.dtype), RowBuffer(plane, np.intp)
        self._prepare_places(numbers)
        self._draws = RowBuffer((_HEAD + self._elastic_draws,), np.float32)
        self._erased = RowBuffer(input_shape, dtype)
        self._stream: RowStream | None = None
        self._changes = False
        return input_shape

    def _prepare_places(self, dtype: np.dtype[Any]) -> None:
        """Make the matrices of which a product is the places in X: see _find."""
        height, width, _ = self._image
        self._elastic_draws, smoothness = 0, self.options["smoothness"]
        self._rows, columns = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
        right = [columns, np.ones(width)]
        if self.options["elastic"]:
            self._elastic_draws = RowStream.whole(height * width)
            self._noise = RowBuffer((height, width), dtype)
            down = math.sqrt(3) * self.options["elastic"] * _gaussian(height, smoothness)
            self._down = down.astype(dtype)
            right += list(_gaussian(width, smoothness).T)
        self._right = np.array(right, dtype)
        self._left = RowBuffer((height, len(right)), dtype)

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y, of X's shape."""
        self._changes = context.training and (self._moves or self.options["erase"] > 0)
        if not self._changes:
            return X
        if self._stream is None or self._stream.seed != context.seed:
            self._stream = RowStream(context.seed, "augment", self.number)
        self._step, self._first_row = context.step, context.first_row
        outputs = self.outputs.rows(*X.shape[:-3])
        images, Y = X.reshape(-1, *self._image), outputs.reshape(-1, *self._image)
        for block in self._blocks(len(images)):
            draws = self._draw(block)
            if self._moves:
                self._find(draws)
                for channel in range(self._image[2]):
                    self._look_up(images[block, ..., channel], Y[block, ..., channel])
            else:
                np.copyto(Y[block], images[block])
            self._erase(draws, Y[block])
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H, W, C) -> dX, of dY's shape: each pixel of X gets dY times the weights that it had.

        All is drawn and found again: nothing has to be kept for a layer that seldom is asked for dX.
        """
        if not self._changes or not input_gradient:
            return dY if input_gradient else None
        gradients = self.input_gradients.rows(*dY.shape[:-3])
        dY, dX = dY.reshape(-1, *self._image), gradients.reshape(-1, *self._image)
        for block in self._blocks(len(dY)):
            draws, left = self._draw(block), self._erased.rows(block.stop - block.start)
            np.copyto(left, dY[block])
            self._erase(draws, left)
            if self._moves:
                self._find(draws)
                for channel in range(self._image[2]):
                    self._give_back(left[..., channel], dX[block, ..., channel])
            else:
                np.copyto(dX[block], left)
        return gradients

    def _blocks(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self._images):
            yield slice(start, min(start + self._images, count))

    def _draw(self, block: slice) -> Array:
        """The random numbers of some images, in [0, 1)."""
        assert self._stream is not None
        draws = self._draws.rows(block.stop - block.start)
        self._stream.fill(draws, self._step, self._first_row + block.start)
        return draws

    def _find(self, draws: Array) -> None:
        """Set, for each pixel of some images, where its neighbours in X lie, and its place between them.

        For an image and a direction, the place of pixel (i, j) is

            x_j * slope + (y_i * other slope + offset) + the sum over n of (G N)[i, n] G'[j, n],

        so all of an image is a product (H, 2 + W) (2 + W, W), each image on its own: then a row has the same bits
        beside any others.
        """
        count, (height, width, _) = len(draws), self._image
        left = self._left.rows(2, count)
        slopes, offsets = self._slopes(draws)
        left[..., 0] = slopes[:, 1, :, None]
        left[..., 1] = slopes[:, 0, :, None] * self._rows + offsets[..., None]
        if self._elastic_draws:
            np.matmul(self._down, self._make_noise(draws[:, _HEAD : _HEAD + height * width]), out=left[..., 2:])
        places, corners = self._places.rows(2, count), self._corners.rows(2, count)
        np.matmul(left, self._right, out=places)
        for direction, most in enumerate((height + 1, width + 1)):
            np.clip(places[direction], 0, most, out=places[direction])  # what lies farther outside is 0, too
        np.floor(places, out=corners)
        places -= corners
        rows, columns = corners
        rows *= width + 2
        rows += columns
        whole, where = self._whole.rows(count), self._where.rows(count)
        np.copyto(whole, rows, casting="unsafe")
        flat = whole.reshape(count, -1)
        flat += self._starts[:count]
        np.copyto(where, whole)  # from floats to int64 at once takes 1.4 times as long

    def _slopes(self, draws: Array) -> tuple[Array, Array]:
        """Of some images, the slopes [to, from] (2, 2, b) and the offsets (2, b) of the places in bordered X.

        Each axis of length 2 has rows first, then columns.
        """
        height, width, _ = self._image
        drawn, option = 2 * draws[:, :_HEAD].T.astype(np.float64) - 1, self.options
        angle, scale = np.radians(option["rotation"] * drawn[_ROTATION]), 1 + option["scale"] * drawn[_SCALE]
        shear, shift = option["shear"] * drawn[_SHEAR], option["shift"] * drawn[_SHIFT_Y : _SHIFT_X + 1]
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        slopes = np.array([[cos, sin], [-sin - shear * cos, cos - shear * sin]])
        centre = np.array([[(height + 1) / 2], [(width + 1) / 2]])  # with the border
        return slopes, centre - slopes[:, 0] * shift[0] - slopes[:, 1] * shift[1]

    def _make_noise(self, draws: Array) -> Array:
        """Draws (b, H W) in [0, 1) -> for each pixel a number from -1 to 1 for both directions, (2, b, H, W).

        A draw has 24 random bits, and each number gets twelve of them: to draw twice as many takes longer. With eight
        levels for 4096, 0.796875 = 51 / 64 would be 6.375 eighths: the numbers 6 / 8, and 0.375 = 3 / 8.
        """
        noise = self._noise.rows(2, len(draws))
        high, low = noise.reshape(2, *draws.shape)
        np.multiply(draws, _LEVELS, out=low)
        np.floor(low, out=high)
        low -= high
        high *= 1 / _LEVELS
        noise *= 2
        noise -= 1 - 1 / _LEVELS  # so that they are 0 on average: the largest is just below 1
        return noise

    def _look_up(self, X: Array, Y: Array) -> None:
        """One channel of some images X (b, H, W) -> Y (b, H, W)."""
        bordered, where = self._bordered.rows(len(X) + 1), self._where.rows(len(X))
        np.copyto(bordered[:-1, 1:-1, 1:-1], X)
        down, right = self._places.rows(2, len(X))
        near, beside, below, beyond = neighbours = self._neighbours.rows(4, len(X))
        for values, pixels in zip(neighbours, self._shifted(bordered), strict=True):
            np.take(pixels, where, out=values, mode="wrap")  # the quickest mode; no place lies outside
        for one, other in ((near, beside), (below, beyond)):
            other -= one
            other *= right
            one += other
        below -= near
        below *= down
        np.add(near, below, out=Y)

    def _give_back(self, dY: Array, dX: Array) -> None:
        """One channel of gradients dY (b, H, W) -> dX (b, H, W)."""
        bordered, where = self._bordered.rows(len(dY) + 1), self._where.rows(len(dY)).reshape(-1)
        bordered.fill(0)
        down, right = self._places.rows(2, len(dY))
        near, beside, below, beyond = neighbours = self._neighbours.rows(4, len(dY))
        np.multiply(dY, down, out=below)
        np.subtract(dY, below, out=near)
        for one, other in ((near, beside), (below, beyond)):
            np.multiply(one, right, out=other)
            one -= other
        for values, pixels in zip(neighbours, self._shifted(bordered), strict=True):
            np.add.at(pixels, where, values.reshape(-1))
        np.copyto(dX, bordered[:-1, 1:-1, 1:-1])
        bordered.fill(0)  # so that the border is 0 again

    def _shifted(self, bordered: Array) -> list[Array]:
        """The pixels of some images, and one more, as vectors of which `where` says the four neighbours."""
        flat, pixels = bordered.reshape(-1), bordered[:-1].size
        return [flat[shift : shift + pixels] for shift in self._shifts]

    def _erase(self, draws: Array, images: Array) -> None:
        """Set a rectangle of some of the images (b, H, W, C) to 0."""
        if not self.options["erase"]:
            return
        height, width, _ = self._image
        for image in np.flatnonzero(draws[:, _ERASE] < self.options["erase"]):
            area, aspect, top, left = map(float, draws[image, _AREA : _LEFT + 1])
            least, most = ERASED_AREA
            pixels = (least + (most - least) * area) * height * width
            ratio = ERASED_ASPECT ** (2 * aspect - 1)
            rows = min(max(round(math.sqrt(pixels * ratio)), 1), height)
            columns = min(max(round(math.sqrt(pixels / ratio)), 1), width)
            first_row, first_column = int(top * (height - rows + 1)), int(left * (width - columns + 1))
            images[image, first_row : first_row + rows, first_column : first_column + columns] = 0


def _gaussian(size: int, deviation: float) -> Array:
    """A matrix (size, size): row i has a Gaussian around i, and the length 1."""
    distance = np.arange(size)[:, None] - np.arange(size)
    weights = np.exp(-0.5 * (distance / deviation) ** 2)
    normed: Array = weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))
    return normed
