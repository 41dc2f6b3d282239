"""Choice of kernels of ours or the vendor's library for a convolution, where the user leaves it open, and of a tile.

What was measured on a GPU of this name decides (``measured.json``, written by ``benchmarks/tune_tiles.py``); where
nothing was, a model of both does: the busiest multiprocessor's steps in our own schedule, against the dense product
and the pass over its output that the library cannot spare.
"""

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dispatch import constant
from ..triton import device_info
from ..triton.tiles import FORWARD, ConvTile, candidates, conv_tiles
from .triton.schedule import PixelMap, Source, shortest

CONV1X1, CONV3X3, ATROUS = "conv1x1_bn", "conv3x3_bn", "atrous_conv_bn_relu"  # kinds: the names of measurements
MEASURED = Path(__file__).with_name("measured.json")

# (dense bf16 FLOP/s, bytes/s) of the data-centre GPU of an architecture; only their ratio matters.
_ROOFS = {80: (312e12, 2.0e12), 90: (790e12, 4.0e12), 100: (2200e12, 7.7e12)}
# Shares of the peak that matrix products reach: estimates, until a measurement takes their place.
_OURS, _VENDOR = 0.65, 0.8
# How far ahead ours must be by the model: on an H200 what it put at 1.2 to 1.5 times the library lost, at 1.67 won.
_MARGIN = 1.6
_ELEMENT = 2  # bytes of an activation


def shape_class(kind: str, channels_in: int, channels_out: int, rates: Sequence[int], map_: PixelMap) -> str:
    """Return the name under which a measurement is kept; pixels only to the nearest power of two."""
    pixels = map_.height * map_.columns
    rate = "x".join(map(str, rates))
    return f"{kind} {channels_in}->{channels_out} rates {rate} pixels 2^{round(math.log2(pixels))}"


def reason_for_library(kind: str, x: Tensor, channels_out: int, rates: Sequence[int]) -> str | None:
    """Return why the library is to do ``kind``, a convolution of ``x`` ``[N, C, H, W]``; None: ours is ahead."""
    if x.device.type != "cuda":
        return None
    if x.dtype == torch.float32:
        return "fp32, which has no tensor cores without rounding to TF32"
    n, c, h, w = x.shape
    return _constant(kind, c, channels_out, tuple(rates), h, w, n, x.device)


@constant
def _constant(
    kind: str, c: int, k: int, rates: tuple[int, ...], height: int, width: int, images: int, device: torch.device
) -> str | None:
    """Decide, for torch.compile a constant."""
    map_ = PixelMap(height, width, images) if any(rates) else PixelMap(1, images * height * width, 1)
    return _slower(kind, c, k, rates, map_, device)


@cache
def _slower(kind: str, c: int, k: int, rates: tuple[int, ...], map_: PixelMap, device: torch.device) -> str | None:
    name = shape_class(kind, c, k, rates, map_)
    found = measured(device_info.name(device)).get(name)
    if found is not None:
        ours, vendor = found["ours_ms"], found["vendor_ms"]
        return None if ours < vendor else f"{name}: {ours:.3f} ms, the library {vendor:.3f} ms"
    if kind == CONV3X3:
        return f"{name}: not measured on this GPU"
    ours, vendor = predicted(c, k, rates, map_, device_info.architecture(device), device_info.multiprocessors(device))
    if _MARGIN * ours < vendor:
        return None
    guess = f"predicted {1e3 * ours:.3f} ms, the library {1e3 * vendor:.3f} ms; expected {_MARGIN} times as fast"
    return f"{name}: not measured on this GPU; {guess}"


@cache
def measured_tile(
    use: str, c: int, k: int, rates: tuple[int, ...], map_: PixelMap, device: torch.device
) -> ConvTile | None:
    """Return the fastest tile for one kernel (``use``, see ``tiles.py``) of a convolution; None: not measured."""
    shapes = measured(device_info.name(device))
    found = shapes.get(shape_class(kind_of(rates), c, k, rates, map_), {}).get("tiles", {}).get(use)
    columns = k if use == FORWARD else c
    return next((tile for tile in candidates(columns, device_info.architecture(device)) if tile.label == found), None)


def kind_of(rates: Sequence[int]) -> str:
    """Return the op that a convolution with these rates belongs to."""
    if len(rates) > 1:
        return "aspp"
    return ATROUS if any(rates) else CONV1X1


@cache
def measured(gpu: str) -> dict[str, Any]:
    """Return by shape class, of the GPU of this name: ``ours_ms`` and ``vendor_ms``, of the same passes, and
    the label of the fastest tile by its use, ``tiles``, where ours has tiles.
    """
    tables = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    return tables.get(gpu, {}).get("shapes", {})


def predicted(
    c: int, k: int, rates: Sequence[int], map_: PixelMap, architecture: int, multiprocessors: int
) -> tuple[float, float]:
    """Return seconds of the forward pass with its statistics: ours, and the library's."""
    flops, bandwidth = _ROOFS[max((a for a in _ROOFS if a <= architecture), default=80)]
    outputs = tuple((Source(0, 0, rate),) for rate in rates)
    tiles = conv_tiles(k, architecture, False)
    work = shortest(tiles, map_, outputs, c, k, multiprocessors)[2]
    # The library's kernels fill whole waves of multiprocessors with tiles too, of any rows and with every tap.
    pixels, taps = map_.height * map_.columns, sum(9 if rate else 1 for rate in rates)
    rows, plain = PixelMap(1, pixels, 1), ((Source(0, 0, 0),),)
    dense = shortest(tiles, rows, plain, c, k, multiprocessors)[2] * taps
    peak = flops / multiprocessors
    y_bytes = _ELEMENT * pixels * k * len(rates)
    moved = (_ELEMENT * pixels * c + y_bytes) / bandwidth
    return max(work / (_OURS * peak), moved), max(dense / (_VENDOR * peak), moved) + y_bytes / bandwidth
