"""Whether a large matrix product has the same bits as several smaller ones: tried, not assumed.

In which order a product adds up its terms depends on its shape, and on the library and the processor, but not on the
numbers. Another order rounds another way. So if products of random numbers, in both shapes, have the same bits
everywhere, the same is true of all numbers. With OpenBLAS a row of a product mostly does not depend on how many rows
there are, and packing a matrix once is quicker than packing it for each micro-shard.
"""

import numpy as np

from ddp_numpy.nn import EVALUATION, Array, Layer, Sequential, SoftmaxCrossEntropy

_DRAWS = 2


class Trials:
    """Of a built model and its loss. Each question is tried once."""

    def __init__(self, model: Sequential, loss: SoftmaxCrossEntropy, by_shards: bool) -> None:
        """by_shards: rows are to come in micro-shards, whatever a trial would show."""
        self._model, self._loss = model, loss
        self._by_shards = by_shards or model.joins_rows
        self._answers: dict[tuple[object, ...], bool] = {}

    def in_one(self, rows: int, micro_rows: int) -> bool:
        """Whether so many rows may go through all layers, forward and backward, together rather than in shards."""
        key = (rows, micro_rows)
        if key not in self._answers:
            self._answers[key] = not self._by_shards and rows > 0 and self._try_rows(rows, micro_rows)
        return self._answers[key]

    def as_one_block(self, layer: Layer, first: slice, second: slice, rows: int) -> bool:
        """Whether two neighbouring runs of a layer's units may be one, in a product of so many rows."""
        key = (layer, first.start, first.stop, second.stop, rows)
        if key not in self._answers:
            self._answers[key] = self._try_units(layer, first, second, rows)
        return self._answers[key]

    def _try_rows(self, rows: int, micro_rows: int) -> bool:
        model, params = self._model, self._model.params
        shards = -(-rows // micro_rows)
        same = True
        try:
            for draw in range(_DRAWS):
                rng = np.random.default_rng(draw)
                # The model's own may be zeros. Larger ones would overflow in deep networks, and that shows nothing.
                model.attach_params((0.1 * rng.standard_normal(params.size)).astype(params.dtype))
                X = rng.standard_normal((shards * micro_rows, *(model.input_shape or ()))).astype(params.dtype)
                y = rng.integers(0, model.output_shape[0], len(X))
                together = self._results(X[:rows], y[:rows])
                apart = self._results(X.reshape(shards, micro_rows, *X.shape[1:]), y)
                same &= all(_same_bits(a, b[:rows]) for a, b in zip(together, apart, strict=True))
                same &= all(bool(np.isfinite(a).all()) for a in together)
        finally:
            model.attach_params(params)
        return same

    def _results(self, X: Array, y: Array) -> list[Array]:
        """Copies of all rows' losses and factors: arrays (rows, numbers)."""
        losses, _ = self._loss.forward(self._model.forward(X, EVALUATION), y)
        self._model.backward(self._loss.backward(global_rows=1))
        found = [losses.copy()]
        for layer in self._model.layer_slices():
            found += [factor.reshape(len(y), -1).copy() for factor in layer.factors()]
        return found

    def _try_units(self, layer: Layer, first: slice, second: slice, rows: int) -> bool:
        cut = layer.cut()
        assert cut is not None
        rng, dtype = np.random.default_rng(0), self._model.dtype
        X, dY = (rng.standard_normal((rows, *shape)).astype(dtype) for shape in (cut.X, cut.dY))
        numbers = self._model.layer_slices()[layer]
        unit = (numbers.stop - numbers.start) // cut.units
        one, border = np.empty((second.stop - first.start) * unit, dtype), (first.stop - first.start) * unit
        two = np.empty_like(one)
        layer.write_units(slice(first.start, second.stop), X, dY, one)
        layer.write_units(first, X, dY, two[:border])
        layer.write_units(second, X, dY, two[border:])
        return _same_bits(one, two)


def _same_bits(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes()
