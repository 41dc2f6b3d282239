"""Classes that a file may hold beside tensors and plain values: they store data and, when they are read, do nothing.

Training scripts save the parsed arguments (an ``argparse.Namespace``) and their best score (a numpy number) with the
weights. ``torch.load(weights_only=True)`` refuses those until they are named; everything else it goes on refusing.

Numpy's own classes take from a pickle what only numpy should know, such as whether the bytes of an array are pointers.
Those here stand for them under their names, and take numbers of the usual types alone.
"""

import argparse
import pathlib
from typing import Any

import numpy as np

_TYPES = frozenset(("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"))
_NO_FIELDS = (None, None, None, -1, -1, 0)  # of numpy.dtype's state: subarray, names, fields, size, alignment, flags


class _NumberType:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if code not in _TYPES:
            raise ValueError(f"numpy type {code!r:.40}; expected numbers")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, order, *rest = state
        if version != 3 or order not in ("<", ">", "|") or tuple(rest) != _NO_FIELDS:
            raise ValueError("a numpy type that is none of plain numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for ``numpy.ndarray``, whose content nobody asks for."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, kind, _, data = state
        if not isinstance(kind, _NumberType) or not isinstance(data, bytes):
            raise ValueError("a numpy array that is none of plain numbers")


def _array(subtype: type, shape: Any, code: Any) -> _Array:
    if subtype is not _Array:
        raise ValueError("a numpy array of another class")
    return _Array()


def _scalar(kind: _NumberType, data: bytes) -> Any:
    (value,) = np.frombuffer(data, kind.dtype)
    return value


def _numpy() -> list[Any]:
    """List what makes numpy's numbers and arrays of them; numpy 2 moved the two functions."""
    moved = [
        (function, f"numpy.{module}.multiarray.{name}")
        for function, name in ((_scalar, "scalar"), (_array, "_reconstruct"))
        for module in ("core", "_core")
    ]
    return [*moved, (_Array, "numpy.ndarray"), (_NumberType, "numpy.dtype")]


def _paths() -> list[Any]:
    """List what makes paths among the arguments, as names alone; those of another system can be read too."""
    return [
        (pure, f"{module}.{name}")
        for name, pure in (
            ("PosixPath", pathlib.PurePosixPath),
            ("WindowsPath", pathlib.PureWindowsPath),
            ("PurePosixPath", pathlib.PurePosixPath),
            ("PureWindowsPath", pathlib.PureWindowsPath),
        )
        for module in ("pathlib", "pathlib._local")  # the second: Python 3.13
    ]


SAFE_GLOBALS: tuple[Any, ...] = (argparse.Namespace, *_numpy(), *_paths())
