"""Reads lines of whole numbers from 0 to 255, as images in text are: three times as fast as pandas reads any text."""

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES = 2**18  # that the processor's cache holds, with what is made of them
_KEPT_BYTES = 2**24  # more than what all arrays of a block take
_DIGITS = 3  # of the largest number
_UTF8_MARK = b"\xef\xbb\xbf"


def small_numbers(header: bytes, lines: bytes, mark: bytes) -> tuple[list[str], npt.NDArray[np.uint8]] | None:
    """The names (d,) in a header line, and the numbers (n, d), uint8, in the lines below it.

    mark: what stands between fields. None if there is anything else but a number from 0 to 255 in each field.
    """
    line = header.removesuffix(b"\n").removesuffix(b"\r")
    names = line.split(mark)
    if len(set(names)) < len(names) or not all(names) or line.startswith(_UTF8_MARK):
        return None
    if any(letter in line for letter in (b'"', b"\r", b"\0")):  # which pandas does not take for parts of a name
        return None
    if header.endswith(b"\r\n"):
        lines = lines.replace(b"\r\n", b"\n")
    if not lines.endswith(b"\n"):
        lines += b"\n"
    try:
        columns = [name.decode() for name in names]
    except UnicodeDecodeError:
        return None
    numbers = np.empty((lines.count(b"\n"), len(names)), np.uint8)
    # glibc gives the memory of freed arrays back to the system, until a process frees an array as large as this one.
    # From then on it keeps that memory for the next block. New pages for each block would take as long again as the
    # numbers (LOG: small numbers in text).
    np.empty(_KEPT_BYTES, np.uint8)
    start = row = 0
    while start < len(lines):
        stop = lines.rfind(b"\n", start, start + _BLOCK_BYTES) + 1
        if not stop:  # a line is longer than a block
            return None
        block = _numbers(np.frombuffer(lines, np.uint8, stop - start, start), len(names), mark)
        if block is None:
            return None
        numbers[row : row + len(block)] = block
        start, row = stop, row + len(block)
    return columns, numbers


def _numbers(text: npt.NDArray[np.uint8], columns: int, mark: bytes) -> npt.NDArray[np.uint16] | None:
    """The numbers (n, columns) of whole lines, at most 255.

    Example: in "7,255\\n", fields end at 1 and 5, and are 1 and 3 digits wide. The digits before an end count 1, 10 and
    100, as far as the field is wide.
    """
    digits = text - np.uint8(ord("0"))  # all but digits are above 9: what is smaller than "0" wraps around
    ends = np.flatnonzero(digits > 9)
    if len(ends) % columns:
        return None
    marks = text[ends].reshape(-1, columns)
    if (marks[:, :-1] != ord(mark)).any() or (marks[:, -1] != ord("\n")).any():
        return None
    width = ends.copy()
    width[1:] -= ends[:-1] + 1
    if width.min() < 1 or width.max() > _DIGITS:
        return None
    at = ends - 1
    numbers = digits[at].astype(np.uint16)
    for place in range(1, _DIGITS):
        at -= 1
        numbers += np.uint16(10**place) * (digits[at] * (width > place))
    if numbers.max() > 255:
        return None
    return numbers.reshape(-1, columns)
