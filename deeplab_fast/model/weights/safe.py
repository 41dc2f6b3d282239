"""Classes that a file may hold beside tensors and plain values: they store data and, when they are read, do nothing.

Training scripts save the parsed arguments (an ``argparse.Namespace``) and their best score (a numpy number) with the
weights. ``torch.load(weights_only=True)`` refuses those until they are named; everything else it goes on refusing.
"""

import argparse
import pathlib
from typing import Any

import numpy as np

_KINDS = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
_FLOATS = ("Float16", "Float32", "Float64")


def _numpy() -> list[Any]:
    """List what makes numpy's numbers and arrays of them; numpy 2 moved the two functions."""
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    moved = [
        (function, f"numpy.{module}.multiarray.{name}")
        for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
        for module in ("core", "_core")
    ]
    return [*moved, np.ndarray, np.dtype, *(getattr(np.dtypes, f"{kind}DType") for kind in _KINDS + _FLOATS)]


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
