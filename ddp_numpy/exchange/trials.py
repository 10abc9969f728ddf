"""Whether a large matrix product has the same bits as several smaller ones: tried, not assumed.

In which order a product adds up its terms depends on its shape, and on the library and the processor, but not on the
numbers. Another order rounds most sums another way, though not each. So if many products of random numbers, in both
shapes, have the same bits everywhere, the order is the same, for all numbers. With OpenBLAS it is, for whole tiles of
rows: those that are left over behind the last tile are added in another way. So only whole tiles are tried at all, as
then many sums would show a difference: a sum of a few terms, such as the loss has, shows it in one of several draws.
"""

import numpy as np

from ddp_numpy.nn import EVALUATION, Array, Layer, Loss, Sequential

_TILE_ROWS = 16  # what libraries take at a time is this, or a part of it
_DRAWS = 4
_LOSS_DRAWS = 64
_SUMS = 256  # so many at least that a border between two blocks could change


class Trials:
    """Of a built model and its loss. Each question is tried once."""

    def __init__(self, model: Sequential, loss: Loss, by_shards: bool) -> None:
        """by_shards: rows are to come in micro-shards, whatever a trial would show."""
        self._model, self._loss = model, loss
        self._by_shards = by_shards or model.joins_rows
        self._answers: dict[tuple[object, ...], bool] = {}

    def in_one(self, rows: int, micro_rows: int) -> bool:
        """Whether so many rows may go through all layers, forward and backward, together rather than in shards."""
        key = (rows, micro_rows)
        if key not in self._answers:
            whole_tiles = rows > 0 and rows % micro_rows == 0 and micro_rows % _TILE_ROWS == 0
            self._answers[key] = not self._by_shards and whole_tiles and self._try_rows(rows, micro_rows)
        return self._answers[key]

    def as_one_block(self, layer: Layer, blocks: list[slice], rows: int) -> bool:
        """Whether neighbouring runs of a layer's units may be one, in a product of so many rows."""
        key = (layer, *((block.start, block.stop) for block in blocks), rows)
        if key not in self._answers:
            self._answers[key] = len(blocks) > 1 and self._try_units(layer, blocks, rows)
        return self._answers[key]

    def _try_rows(self, rows: int, micro_rows: int) -> bool:
        model, params = self._model, self._model.params
        shape, classes = (rows // micro_rows, micro_rows), model.output_shape[0]
        rng, same = np.random.default_rng(0), True
        try:
            for _ in range(_DRAWS):
                # The model's own may be zeros. Larger ones would overflow in deep networks, and that shows nothing.
                model.attach_params((0.1 * rng.standard_normal(params.size)).astype(params.dtype))
                X = rng.standard_normal((rows, *(model.input_shape or ()))).astype(params.dtype)
                y = rng.integers(0, classes, rows)
                together, apart = self._results(X, y), self._results(X.reshape(*shape, *X.shape[1:]), y)
                same &= all(
                    _same_bits(a, b) and bool(np.isfinite(a).all()) for a, b in zip(together, apart, strict=True)
                )
        finally:
            model.attach_params(params)
        for _ in range(_LOSS_DRAWS):
            logits, y = rng.standard_normal((rows, classes)).astype(params.dtype), rng.integers(0, classes, rows)
            losses = self._loss.forward(logits, y)[0].copy()
            gradient = self._loss.backward(global_rows=1).copy()
            same &= _same_bits(losses, self._loss.forward(logits.reshape(*shape, classes), y)[0])
            same &= _same_bits(gradient, self._loss.backward(global_rows=1))
        return same

    def _results(self, X: Array, y: Array) -> list[Array]:
        """Copies of all rows' losses and factors: arrays (rows, numbers)."""
        losses, _ = self._loss.forward(self._model.forward(X, EVALUATION), y)
        self._model.backward(self._loss.backward(global_rows=1))
        found = [losses.copy()]
        for layer in self._model.layer_slices():
            found += [factor.reshape(len(y), -1).copy() for factor in layer.factors()]
        return found

    def _try_units(self, layer: Layer, blocks: list[slice], rows: int) -> bool:
        cut, place = layer.cut(), self._model.layer_slices()[layer]
        assert cut is not None
        rng, dtype, unit = np.random.default_rng(0), self._model.dtype, (place.stop - place.start) // cut.units
        first, stop = blocks[0].start, blocks[-1].stop
        together, apart = np.empty((2, (stop - first) * unit), dtype)
        for _ in range(_DRAWS + _SUMS // unit):
            X, dY = (rng.standard_normal((rows, *shape)).astype(dtype) for shape in (cut.X, cut.dY))
            layer.write_units(slice(first, stop), X, dY, together)
            for block in blocks:
                layer.write_units(block, X, dY, apart[(block.start - first) * unit : (block.stop - first) * unit])
            if not _same_bits(together, apart):
                return False
        return True


def _same_bits(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()
