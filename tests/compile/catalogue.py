"""Every kernel with every entry of its tile table, as the launches that real layers make, on meta tensors."""

from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import torch
from torch import Tensor

from deeplab_fast.ops.conv.triton import conv, conv_weight, stem_conv
from deeplab_fast.ops.conv.triton.schedule import PixelMap, Source
from deeplab_fast.ops.norm.triton import batch_norm_stats, norm_relu, norm_relu_pool
from deeplab_fast.ops.triton import device_info, tiles
from deeplab_fast.ops.triton.launch import Launch, record_launches
from deeplab_fast.ops.upsampling.triton import label_weight, upsample_argmax, upsample_ce, upsample_ce_per_pixel
from deeplab_fast.ops.upsampling.upsample import Cells

Call = tuple[str, Callable[[], object]]


def launches(dtype: torch.dtype, arch: int) -> dict[str, Launch]:
    """By name: kernel, tile, and what is special. Of fp32 only the kernels that have tiles of their own for it."""
    found: dict[str, Launch] = {}
    seen = set()
    for word, call in conv_calls(dtype, arch) if dtype == torch.float32 else calls(dtype, arch):
        with record_launches() as made, mock.patch.object(device_info, "architecture", return_value=arch):
            call()
        for one in made:
            absent = tuple(sorted(name for name, value in one.arguments.items() if value is None))
            layout = tuple(v == 1 for k, v in one.arguments.items() if k.startswith("stride"))
            classes = one.arguments.get("classes", 16) % 16
            key = (one.kernel.__name__, one.tile, tuple(one.constants.items()), absent, layout, classes)
            if key not in seen:
                seen.add(key)
                tile = one.tile
                size = f"{tile.rows}x{tile.columns} w{tile.warps}"
                if isinstance(tile, tiles.ConvTile):
                    size += f" s{tile.stages}"
                name = f"{one.kernel.__name__.removesuffix('_kernel')} {size} {word}"
                assert name not in found, name
                found[name.strip()] = one
    return found


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def calls(dtype: torch.dtype, arch: int) -> Iterator[Call]:
    for channels in sorted({min(largest, 256) for largest, _ in tiles.MOMENTS + tiles.NORM + tiles.NORM_BACKWARD}):
        yield from norm_calls(dtype, channels)
    for largest, _ in tiles.POOL:
        yield from pool_calls(dtype, min(largest, 64))
    for classes, _ in tiles.PIXELS:
        yield from upsample_calls(dtype, classes)
    for classes in (19, 21):  # Cityscapes' and VOC's: not multiples of 16, and stored channels-last
        yield from upsample_calls(dtype, classes)
    yield from label_calls(dtype)
    images, out = meta(32, 513, 513, 3), meta(32, 260, 260, 16, dtype=dtype)
    yield "", lambda: stem_conv.space_to_depth(images, out)
    yield from conv_calls(dtype, arch)


def norm_calls(dtype: torch.dtype, channels: int) -> Iterator[Call]:
    x, y, dy = (meta(1 << 20, channels, dtype=dtype) for _ in range(3))
    statistics = tuple(meta(channels) for _ in range(4))
    rest = (*statistics, 1e-5)

    def backward(residual: bool, relu: bool, count: Tensor | float | None) -> None:
        mask = y if residual and relu else None
        sums = norm_relu.norm_relu_sums(dy, x, mask, *rest, relu)
        norm_relu.norm_relu_backward(dy, x, mask, *rest, relu, sums, count, dy, mask)

    few = meta(64, channels, dtype=dtype)
    yield "few rows", lambda: batch_norm_stats.batch_norm_stats(few, meta(channels), meta(channels), 0.1)
    yield "few rows", lambda: norm_relu.norm_relu_sums(few, few, None, *rest, True)
    yield "", lambda: batch_norm_stats.batch_norm_stats(x, meta(channels), meta(channels), 0.1)
    yield "raw", lambda: batch_norm_stats.local_moments(x)
    yield "", lambda: norm_relu.norm_relu(x, None, *rest, True, y)
    yield "residual", lambda: norm_relu.norm_relu(x, y, *rest, True, y)
    yield "", lambda: backward(False, True, 4096.0)
    yield "residual", lambda: backward(True, True, 4096.0)
    yield "two readers", lambda: norm_relu.norm_relu_sums(dy, x, y, *rest, True, y, x)
    yield "pair", lambda: norm_relu.norm_relu(x, y, *rest, True, y, statistics)
    yield "pair", lambda: norm_relu.norm_relu_sums(dy, x, y, *rest, True, y, x, (y, *statistics[:2]))
    if channels < 64:  # what is left differs in a few instructions: once
        return
    yield "linear", lambda: norm_relu.norm_relu(x, None, *rest, False, y)
    yield "linear", lambda: backward(False, False, 4096.0)
    yield "frozen", lambda: backward(False, True, None)
    yield "shared", lambda: backward(False, True, meta(1))


def pool_calls(dtype: torch.dtype, channels: int) -> Iterator[Call]:
    x, dx = (meta(32, 257, 257, channels, dtype=dtype) for _ in range(2))
    y = meta(32, 129, 129, channels, dtype=dtype)
    taps = meta(32, 129, 129, channels, dtype=torch.uint8)
    rest = (*(meta(channels) for _ in range(4)), 1e-5)

    def backward(count: float | None) -> None:
        sums = norm_relu_pool.norm_relu_pool_sums(y, taps, x, *rest)
        norm_relu_pool.norm_relu_pool_backward(y, taps, x, *rest, sums, count, dx)

    yield "", lambda: norm_relu_pool.norm_relu_pool(x, *rest, y, taps)
    yield "", lambda: backward(2113568.0)
    yield "frozen", lambda: backward(None)


def upsample_calls(dtype: torch.dtype, classes: int) -> Iterator[Call]:
    logits = meta(32, classes, 33, 33, dtype=dtype)
    if classes % 2:
        logits = logits.to(memory_format=torch.channels_last)
    gradient = meta(32, classes, 33, 33, dtype=dtype)
    labels = meta(32, 513, 513, dtype=torch.uint8)
    weights = meta(classes)
    axis = Cells(meta(35, dtype=torch.int32), meta(513, dtype=torch.int32), meta(513))

    def loss(targets: Tensor, weights: Tensor | None, smoothing: float, gradient: Tensor | None) -> None:
        with mock.patch.object(upsample_ce, "cells", return_value=axis):
            upsample_ce.upsample_ce(logits, targets, weights, 255, smoothing, True, gradient)

    def per_pixel() -> None:
        with mock.patch.object(upsample_ce_per_pixel, "cells", return_value=axis):
            upsample_ce_per_pixel.upsample_ce_per_pixel(logits, labels, 255, True, meta(32, 513, 513))

    def argmax(views: int, plain: bool) -> None:
        tables = (meta(views, 5, dtype=torch.int32), meta(5130, dtype=torch.int32), meta(5130))
        extents = torch.zeros(views, 32, 2, dtype=torch.int32)
        with mock.patch.object(upsample_argmax, "_tables", return_value=tables):
            out = meta(32 * 375 * 500, dtype=torch.uint8)
            upsample_argmax.upsample_argmax(
                [logits] * views, [513, 513] * views, extents, [375, 500] * 32, True, plain, out
            )

    yield f"{classes} classes", lambda: loss(labels, None, 0.0, gradient)
    yield f"{classes} classes, weights and smoothing", lambda: loss(labels, weights, 0.1, gradient)
    if classes == 21:
        yield f"{classes} classes, no gradient", lambda: loss(labels, None, 0.0, None)
    yield f"{classes} classes", per_pixel
    yield f"{classes} classes", lambda: argmax(5, False)
    yield f"{classes} classes, plain", lambda: argmax(1, True)


def conv_calls(dtype: torch.dtype, arch: int) -> Iterator[Call]:
    """Every tile on layer4's map; the four branches of ASPP."""
    is_fp32 = dtype == torch.float32
    map_, single, four = PixelMap(33, 33, 32), [(Source(0, 0, 2),)], [tuple(Source(i, 9 * i, -6) for i in range(4))]
    x, y = (meta(33, 1056, 1, 512, dtype=dtype) for _ in range(2))
    dy, parts, vector = meta(33, 1056, 4, 256, dtype=dtype), meta(map_.tiles, 3, 512), meta(512)
    weights, branches = meta(9, 512, 512, dtype=dtype), meta(36, 256, 512, dtype=dtype)
    is_hopper = device_info.HOPPER <= arch < device_info.BLACKWELL
    more = [tile for _, tile in tiles.CONV_SHARING] if is_hopper and not is_fp32 else []
    for tile in [*tiles.conv_tiles(512, arch, is_fp32), *more]:
        run = partial(conv.conv, map_=map_, tile=tile)
        yield "moments", partial(run, x, weights, y, outputs=single, parts=parts)
        yield "folded", partial(run, x, weights, y, outputs=single, scale=vector, shift=vector, relu=True)
        yield "gradient", partial(run, x, weights, y, outputs=single, transposed=True)
        yield "gradient of four", partial(run, dy, branches, y, outputs=four, transposed=True)
    tile = tiles.choose(tiles.CONV_WEIGHT_FP32 if is_fp32 else tiles.CONV_WEIGHT, 512)
    yield "", lambda: conv_weight.conv_weight(y, x, meta(9, 512, 512), map_, single[0], tile)


def label_calls(dtype: torch.dtype) -> Iterator[Call]:
    labels = meta(32, 513, 513, dtype=torch.uint8)
    wide = meta(32, 513, 513, dtype=torch.int64)
    gradient = meta(32, 21, 33, 33, dtype=dtype)
    yield "", lambda: upsample_ce.scale(gradient, meta(), gradient)
    yield "", lambda: label_weight.label_weight(labels, 21, None, 255)
    yield "weights, int64", lambda: label_weight.label_weight(wide, 21, meta(21), 255)
