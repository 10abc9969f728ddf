"""How raw features become what a network takes."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """(raw - shift) / divisor: two numbers for all features, or two of each."""

    divisor: Any = 1.0
    """A number above 0, or (d,) of them, float64."""
    shift: Array | None = None
    """(d,), float64; None: 0."""
    words: str = ""
    """For people, of shifted features: "standardized"."""

    def __str__(self) -> str:
        return f"divided by {self.divisor:g}" if self.shift is None else self.words

    def words_of(self, feature: int) -> str:
        """What is done to the numbers x of one feature, for people."""
        if self.shift is None:
            return f"x / {self.divisor:g}"
        return f"(x - {self.shift[feature]:.5g}) / {self.divisor[feature]:.5g}"

    def description(self) -> dict[str, Any]:
        """As JSON can hold it; `of` takes it back."""
        if self.shift is None:
            return {"input_divisor": self.divisor}
        return {"input_divisor": self.divisor.tolist(), "input_shift": self.shift.tolist(), "input_scale": self.words}

    @classmethod
    def of(cls, description: dict[str, Any], features: int) -> "Scale":
        """The scale of a description, checked against its schema. Raises InputError unless it has so many features."""
        divisor, shift = description["input_divisor"], description.get("input_shift")
        if shift is None and not isinstance(divisor, list):
            return cls(divisor)
        for name, values in (("input_divisor", divisor), ("input_shift", shift)):
            if not isinstance(values, list) or len(values) != features:
                raise InputError(f"{name} must be a list of {features} numbers, one a feature")
        return cls(np.array(divisor, np.float64), np.array(shift, np.float64), description.get("input_scale", "scaled"))

    def as_one(self) -> dict[str, float]:
        """As JSON can hold it, if it is of one feature; `of_one` takes it back."""
        assert self.shift is not None
        return {"shift": float(self.shift[0]), "divisor": float(self.divisor[0])}

    @classmethod
    def of_one(cls, described: dict[str, float]) -> "Scale":
        """The scale of one feature."""
        return cls(np.array([described["divisor"]]), np.array([described["shift"]]), "standardized")

    def largest(self, least: Array, most: Array) -> float:
        """The largest absolute value once features are scaled, but for rounding. least, most: of each raw one (d,)."""
        edges = np.array([least, most], np.float64)
        if self.shift is not None:
            edges -= self.shift
        return float(np.abs(edges / self.divisor).max())


UNSCALED = Scale()


class Scaler:
    """Scales rows of one dtype into memory of another, as all do who take raw features: in training and after it."""

    def __init__(self, scale: Scale, raw: npt.DTypeLike, dtype: npt.DTypeLike) -> None:
        """raw: the dtype of raw features; dtype: that of scaled ones."""
        self._factor: Any = 1 / scale.divisor
        self._shift = scale.shift
        # A date in seconds has more digits than float32, and differences between dates have not: such numbers are
        # shifted before they are rounded.
        self._wide = np.dtype(raw).itemsize > np.dtype(dtype).itemsize
        if self._shift is not None:
            self._factor = self._factor.astype(dtype)
            self._shift = self._shift.astype(np.float64 if self._wide else dtype)

    def __call__(self, raw: Array, X: Array, features: slice = slice(None)) -> None:
        """Write to X (B, k) these of the features: raw (B, k)."""
        if self._shift is None:
            np.copyto(X, raw, casting="unsafe")
            X *= self._factor
            return
        if self._wide:
            np.subtract(raw, self._shift[features], out=X, casting="same_kind")
        else:  # a step of its own, because an operation of mixed types converts piece by piece
            np.copyto(X, raw)
            X -= self._shift[features]
        X *= self._factor[features]
