"""A network as a table: what leaves each layer, and what the layer costs."""

import math
from collections.abc import Iterator

from ddp_numpy.nn.layers import Layer
from ddp_numpy.nn.model import Sequential

_HEAD = ("", "layer", "output", "parameters", "FLOPs a row", "activations")


def table(model: Sequential, rows: int) -> list[str]:
    """Lines of text for a built model: of each layer its output, parameters, FLOPs of a row's forward, and bytes.

    rows: that a rank takes through the layers at a time, for the bytes of what leaves a layer.
    """
    own = {layer: part.stop - part.start for layer, part in model.layer_slices().items()}
    inner = {layer for layer in model.all_layers if layer.chains}  # its layers have lines of their own
    lines, whole = [_HEAD], [0, 0, 0]
    for depth, layer in _in_order(model.layers):
        size, flops = own.get(layer, 0), 0 if layer in inner else layer.flops()
        stored = rows * math.prod(layer.output_shape) * model.dtype.itemsize
        whole = [whole[0] + size, whole[1] + flops, whole[2] + stored]
        words = type(layer).__name__ if layer in inner else str(layer)
        shape = " x ".join(map(str, layer.output_shape))
        lines.append((str(layer.number), "  " * depth + words, shape, f"{size:,}", f"{flops:,}", _bytes(stored)))
    lines.append(("", "all", "", f"{whole[0]:,}", f"{whole[1]:,}", f"{_bytes(whole[2])} for {rows:,} rows"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    # Words to the left, numbers to the right.
    return [
        "  ".join(
            cell.ljust(width) if column in (1, 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _in_order(layers: tuple[Layer, ...], depth: int = 0) -> Iterator[tuple[int, Layer]]:
    """The layers with those within them, and how deep each stands."""
    for layer in layers:
        yield depth, layer
        for chain in layer.chains:
            yield from _in_order(chain.layers, depth + 1)


def _bytes(count: int) -> str:
    return f"{count / 2**10:,.1f} KiB" if count < 2**20 else f"{count / 2**20:,.1f} MiB"
