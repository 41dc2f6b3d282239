"""Bytes that a launch of the norm kernels moves, counted from its parameters: what a timing is held against.

Every element that a program asks for counts, also where another program asks for it too and a cache
would answer; masked ones do not. Tests count the same in the interpreter, access by access.
"""

from typing import NamedTuple

import triton
from torch import Tensor

from ...triton.launch import Launch

_MATRICES = ("x", "x2", "residual", "y", "dy", "more", "dz", "dx", "dresidual", "parts")
_CONSTANTS = ("mean", "variance", "weight", "bias")
# What each program reads of every channel that it works on.
_VECTORS = {
    "moments_kernel": (),
    "norm_relu_kernel": (*_CONSTANTS, "mean2", "variance2", "weight2", "bias2"),
    "norm_relu_sums_kernel": (*_CONSTANTS, "mean2", "variance2"),
    "norm_relu_backward_kernel": (*_CONSTANTS, "sum_dz", "sum_dz_x_hat"),
}


class Traffic(NamedTuple):
    """``moved``: bytes loaded and stored. ``least``: each input read once and each output written once."""

    moved: int
    least: int


def bytes_moved(made: Launch) -> Traffic:
    """Count the bytes of a launch of ``moments``, ``norm_relu``, ``norm_relu_sums`` or ``norm_relu_backward``."""
    given, name = made.arguments, made.kernel.__name__
    vectors = [given[v] for v in _VECTORS[name] if made.constants.get("BATCH", True) or not v.startswith("sum")]
    matrices = sum(_bytes(given.get(m)) for m in _MATRICES)
    per_program = sum(map(_bytes, vectors))
    if name == "moments_kernel":
        per_program = given["channels"] * given["x"].element_size()  # the row that means are relative to
    programs = triton.cdiv(given["rows"], made.tile.rows)
    if len(made.grid) == 2:  # a reduction: each program takes many tiles
        programs = made.grid[0]
    return Traffic(matrices + programs * per_program, matrices + sum(map(_bytes, vectors)))


def _bytes(value: Tensor | None) -> int:
    return 0 if value is None else value.numel() * value.element_size()
