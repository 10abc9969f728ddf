"""Tests of exercise 6, in the order in which to mend what they find."""

import re
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from jobs import Job

VERIFY = ("-m", "ddp_numpy.verify", "--ranks", "1,2", "--reproducible", "--model-file", "a_bit.py", "--epochs")


@pytest.mark.parametrize(
    ("bit", "after"), [(0, np.nextafter(np.float32(1), np.float32(2))), (22, 1.5), (30, np.inf), (31, -1.0)]
)
def test_flip_bit(exercise: ModuleType, bit: int, after: float) -> None:
    """Of 1.0 among other numbers; flipped again it is 1.0 again."""
    x = np.array([3.0, 1.0, -2.0], np.float32)
    exercise.flip_bit(x, 1, bit)
    assert x.dtype == np.float32, "flip_bit: x must stay an array of float32; look at its bits with x.view"
    assert x[1] != 1, (
        "flip_bit changed nothing: x.view(np.uint32) shows the same memory as whole numbers, x.astype copies"
    )
    assert x[0] == 3, "flip_bit changed another element than it was told"
    assert x[2] == -2, "flip_bit changed another element than it was told"
    assert x[1] == after, f"flip_bit: bit {bit} of 1.0 makes it {after}, not {x[1]}: only bit number {bit} may differ"
    exercise.flip_bit(x, 1, bit)
    assert x[1] == 1, f"flip_bit: a bit that is flipped twice is as before, and 1.0 became {x[1]}: flip it with ^="


def test_flipping(exercise: ModuleType) -> None:
    """The replacement makes each update, and flips once, if the element is this rank's."""
    calls: list[tuple[object, ...]] = []
    for run, flips in ((slice(4, 8), True), (slice(0, 4), False)):
        params, grads, optimizer = np.ones(8, np.float32), np.zeros(8, np.float32), object()
        calls.clear()
        step = exercise.flipping(lambda *arguments: calls.append(arguments), 3, 5, 31)
        assert callable(step), "flipping must return a function, which takes the place of step"
        for update in (1, 2, 3, 4):
            step(optimizer, params, grads, [run])
            assert len(calls) == update, (
                f"flipping: update {update} called the given step {len(calls)} times in all: call it once each time, "
                "or this rank's weights stay as they are"
            )
            assert calls[-1][0] is optimizer, "flipping: pass on the optimizer, params, grads and runs as they came"
            assert calls[-1][1] is params, "flipping: pass on params itself, not a copy"
            expected = np.ones(8, np.float32)
            expected[5] = -1 if flips and update >= 3 else 1
            assert np.array_equal(params, expected), (
                f"flipping a bit of element 5 after update 3, on a rank that updates {run.start}:{run.stop}: behind "
                f"update {update} the weights are {params}, not {expected}. Count the calls; flip once, and only if "
                "the element lies in a run of this rank"
            )


def test_reversed_sum(exercise: ModuleType) -> None:
    """The same pairs of rows, in another order."""
    rng = np.random.default_rng(11)
    X, dY, gradient = rng.normal(size=(64, 5)), rng.normal(size=(64, 3)), np.zeros(15)
    calls: list[tuple[object, np.ndarray, np.ndarray, object]] = []
    write = exercise.reversed_sum(lambda *arguments: calls.append(arguments))
    assert callable(write), "reversed_sum must return a function, which takes the place of write_units"
    write(slice(0, 5), X, dY, gradient)
    assert len(calls) == 1, f"reversed_sum called write_units {len(calls)} times, not once"
    units, other_X, other_dY, other_gradient = calls[0]
    assert units == slice(0, 5), "reversed_sum: pass on units as they are: they say which part of the gradient is meant"
    assert other_gradient is gradient, "reversed_sum: pass on gradient itself, or the result is lost"
    assert not np.array_equal(other_X, X), "reversed_sum: the rows come in the same order as before"
    assert np.allclose(other_X.T @ other_dY, X.T @ dY, rtol=1e-12), (
        "reversed_sum: the sum has changed by more than rounding. X and dY must be reversed together, along the rows"
    )


def test_verify_finds_the_bit_on_real_ranks(exercise: ModuleType, run_python: Callable[..., Job]) -> None:
    """Epoch 1 is equal; in epoch 2 exactly this element differs."""
    job = run_python(None, *VERIFY, "2")
    assert job.status != 2, f"verify could not train:\n{job.err}"
    assert job.status == 1, (
        f"verify ended with {job.status}, not 1: it found all equal. Was the bit flipped?\n{job.out}"
    )
    assert re.search(r"^2 ranks  epoch 1  \w+  equal$", job.out, re.MULTILINE), (
        f"verify finds a difference in epoch 1 already; the bit is to be flipped after update {exercise.UPDATE}, the "
        f"last one of epoch 2:\n{job.out}"
    )
    where = rf"first in W of layer 1 \(Dense\), element {exercise.ELEMENT}$"
    assert re.search(rf"^2 ranks  epoch 2  \w+  differs by .*, {where}", job.out, re.MULTILINE), (
        f"verify does not name epoch 2, layer 1 and element {exercise.ELEMENT}. Was another element flipped?\n{job.out}"
    )


def test_verify_finds_the_other_order_on_real_ranks(exercise: ModuleType, run_python: Callable[..., Job]) -> None:
    """Rounding alone, which --reproducible does not allow."""
    job = run_python(None, *VERIFY, "1", FAULT="order")
    assert job.status != 2, f"verify could not train:\n{job.err}"
    assert job.status == 1, f"verify ended with {job.status}, not 1: are the rows added up in another order?\n{job.out}"
    assert re.search(r"^2 ranks  epoch 1  \w+  differs by .*, first in W of layer 1 ", job.out, re.MULTILINE), (
        f"verify names no difference in layer 1 in epoch 1:\n{job.out}"
    )
