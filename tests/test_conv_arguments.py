"""What convolutions and pools take: their arguments, and the images that they can't go over."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddp_numpy import AvgPool2D, Conv2D, GlobalAvgPool, InputError, MaxPool2D, Sequential
from ddp_numpy.nn import Layer


@pytest.mark.parametrize(
    ("layer", "config", "words"),
    [
        (
            Conv2D(np.int64(16), (3, 5), [2, 2], padding=1),  # type: ignore[arg-type]
            {"filters": 16, "kernel": [3, 5], "stride": 2, "padding": 1, "dilation": 1, "groups": 1},
            "conv 3x5 -> 16",
        ),
        (
            Conv2D(8, groups=4, init="glorot"),
            {"filters": 8, "kernel": 3, "stride": 1, "padding": "same", "dilation": 1, "groups": 4, "init": "glorot"},
            "depthwise conv 3x3 -> 8",
        ),
        (MaxPool2D(), {"size": 2, "stride": 2, "padding": "valid"}, "max-pool 2x2"),
        (AvgPool2D((2, 3), 1, "same"), {"size": [2, 3], "stride": 1, "padding": "same"}, "average-pool 2x3"),
        (GlobalAvgPool(), {}, "average"),
    ],
)
def test_a_layer_is_made_again_from_its_config(layer: Layer, config: dict[str, Any], words: str) -> None:
    assert layer.config() == config
    assert type(layer)(**config).config() == config
    assert str(layer) == words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2D(0), "Conv2D: filters is 0, and must be a whole number from 1 to"),
        (lambda: Conv2D(2.0), "Conv2D: filters is 2.0, and must be a whole number"),  # type: ignore[arg-type]
        (lambda: Conv2D(2, 0), "Conv2D: kernel is 0, and must be a whole number from 1 to .* or a list"),
        (lambda: Conv2D(2, (3, 3, 3)), "Conv2D: kernel has 3 numbers, and must have two"),  # type: ignore[arg-type]
        (lambda: Conv2D(2, [3, 0]), r"Conv2D: kernel\[1\] is 0"),
        (lambda: Conv2D(2, stride=True), "Conv2D: stride is True"),
        (lambda: Conv2D(2, dilation="2"), "Conv2D: dilation is '2'"),  # type: ignore[arg-type]
        (lambda: Conv2D(2, padding="full"), "Conv2D: padding is 'full', and must be 'same' or 'valid' or a whole"),
        (lambda: Conv2D(2, padding=-1), "Conv2D: padding is -1"),
        (lambda: Conv2D(2, groups=0), "Conv2D: groups is 0"),
        (lambda: Conv2D(2, init="no"), "Conv2D: init is 'no', and must be 'he' or 'glorot'"),
        (lambda: MaxPool2D(0), "MaxPool2D: size is 0"),
        (lambda: AvgPool2D(2, 0), "AvgPool2D: stride is 0"),
        (lambda: MaxPool2D(2, padding="no"), "MaxPool2D: padding is 'no'"),
        (lambda: AvgPool2D((3, 2), padding=2), "AvgPool2D: padding is 2, and must be less than size"),
    ],
)
def test_arguments_that_no_layer_takes(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2D(2), (5,), r"layer 1 \(Conv2D\) takes images .*, not rows of the shape \(5,\); give"),
        (MaxPool2D(), (5, 5), r"layer 1 \(MaxPool2D\) takes images .*, not rows of the shape \(5, 5\)"),
        (GlobalAvgPool(), (2, 5, 5, 1), r"layer 1 \(GlobalAvgPool\) takes images"),
        (
            Conv2D(2, 4, padding="valid"),
            (3, 5, 1),
            r"layer 1 \(Conv2D\): a window of 4x4 pixels does not fit on .* 3x5",
        ),
        (Conv2D(2, 3, dilation=3, padding=1), (4, 9, 1), "a window of 3x3 pixels, its pixels 3x3 apart, does not fit"),
        (AvgPool2D(6), (5, 7, 1), r"layer 1 \(AvgPool2D\): a window of 6x6 pixels does not fit"),
        (Conv2D(4, groups=3), (5, 5, 4), "groups is 3, and must be 1 or the number of channels, which is 4"),
        (Conv2D(6, groups=4), (5, 5, 4), "filters is 6, and with groups 4 must be a multiple of 4"),
        (Conv2D(2, padding=2**31 - 1), (5, 5, 1), "are too large; take less padding"),
        (Conv2D(2**31 - 1), (5, 5, 1), r"layer 1 \(Conv2D\): on images of the shape .* would have [\d,]+ numbers"),
        (Conv2D(1, 2**31 - 1), (5, 5, 1), "are too large|numbers"),
        (Conv2D(2**31 - 1, 2, dilation=2**15, padding=2**14), (5, 5, 1), "numbers"),
        (MaxPool2D(20_000, 1), (40_000, 40_000, 1), r"layer 1 \(MaxPool2D\): its windows have [\d,]+ numbers"),
        (Conv2D(1, 14_000, padding="valid"), (14_000, 14_000, 10), "too large|numbers"),
    ],
)
def test_images_that_no_layer_takes(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sequential(layer).build(shape)
