"""Packages that only some commands need."""

from importlib.util import find_spec

from ddp_numpy.base.errors import InputError


def need(what: str, *packages: str, otherwise: str = "") -> None:
    """Raise InputError if one of these is not installed. what: needs them; otherwise: how to do without."""
    if missing := [package for package in packages if find_spec(package) is None]:
        names = " ".join(missing)
        way = f", or {otherwise}" if otherwise else ""
        raise InputError(f"{what} needs {' and '.join(missing)}; install it with: pip install {names}{way}")
