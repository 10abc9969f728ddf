"""A network's ONNX graph with weights and numbers between layers of 8 bits, a quarter of the bytes."""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ddp_numpy.nn import Array

CALIBRATION_ROWS = 1000
"""They tell in which range numbers lie; more change little."""
_KINDS = ["Conv", "Gemm", "Relu"]  # a ReLU, because then none of the 256 numbers before it stands for less than 0
_ROWS = 64  # at a time
_SECONDS = 0.5


class _Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Rows to calibrate by, some at a time."""

    def __init__(self, rows: Array) -> None:
        self._parts: Iterator[Array] = (rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS))

    def get_next(self) -> dict[str, Array] | None:
        part = next(self._parts, None)
        return None if part is None else {"features": part}


def quantized(made: onnx.ModelProto, rows: Array) -> onnx.ModelProto:
    """The network of a graph in whole numbers of 8 bits with signs, weights and what layers return (static, QDQ).

    rows (n, *input_shape): raw features, of which the ranges of numbers between layers are taken. Each output of a
    layer has a scale of its own for its weights. All but convolutions, products and ReLU stays float32.
    """
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        onnx.save(made, before)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it would advise on models of other makers
        try:
            quantize_static(
                before, after, _Rows(rows.astype(input_type(made))), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=_KINDS,
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
        found = onnx.load(after)
    # The names of nodes, and the shapes between them, are nothing that a runtime needs.
    del found.graph.value_info[:]
    for node in found.graph.node:
        node.ClearField("name")
    del found.metadata_props[:]
    found.metadata_props.extend(made.metadata_props)
    return found


def input_type(made: onnx.ModelProto) -> Any:
    """NumPy's type of the features that a graph takes."""
    return onnx.helper.tensor_dtype_to_np_dtype(made.graph.input[0].type.tensor_type.elem_type)


class Runtime:
    """A graph in onnxruntime, on one thread."""

    def __init__(self, made: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
        self._type = input_type(made)

    def first_output(self, rows: Array) -> Array:
        """Logits (n, classes), or predictions (n,), of raw rows (n, *input_shape)."""
        parts = (rows[first : first + _ROWS].astype(self._type) for first in range(0, len(rows), _ROWS))
        return np.concatenate([self._session.run(None, {"features": part})[0] for part in parts])

    def rows_a_second(self, rows: Array) -> float:
        """How many rows it takes, 64 at a time, for half a second."""
        part = rows[:_ROWS].astype(self._type)
        self._session.run(None, {"features": part})
        start, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < _SECONDS:
            self._session.run(None, {"features": part})
            done += len(part)
        return done / seconds
