"""The least time that a training step can take: floating-point operations and bytes of each part of it.

A kernel takes at least ``max(operations / peak, bytes / bandwidth)``; a step at least the sum over its kernels
(Williams et al., "Roofline", doi 10.1145/1498765.1498785). The kernels counted are those of the best schedule that
this project aims at: convolutions whose epilogues take the BatchNorm's sums, the ReLU's mask and the residual path's
gradient, taps that read only padding left out, one pass each way to normalise, the loss from low-resolution logits.
Each tensor counts once for each kernel that reads or writes it; caches do not.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ..model import DeepLabV3
from ..model.resnet import BasicBlock, Bottleneck

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = "convolution forward", "convolution input gradient", "convolution weights"
NORMALISE, LOSS, OPTIMISER = "normalisation", "loss", "optimiser"
CATEGORIES = (FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, NORMALISE, LOSS, OPTIMISER)


class Roof(NamedTuple):
    """Operations and bytes a second that a device sustains."""

    flops: float
    bandwidth: float


H200 = Roof(790e12, 4.3e12)  # dense bf16 and a large copy, as measured on one


class Part(NamedTuple):
    """One kernel's work. ``dense``: its operations if no tap were left out."""

    category: str
    layer: str
    flops: float
    dense: float
    bytes: float

    def floor(self, roof: Roof) -> float:
        """Return seconds."""
        return max(self.flops / roof.flops, self.bytes / roof.bandwidth)


@dataclass
class Conv:
    """A convolution ``[n, c, h, w] -> [n, k, out_h, out_w]`` of square maps in the network's order.

    ``source``: the convolution whose normalised output it reads, None for the image and the pooled features.
    ``residual``: what is added after its BatchNorm, a block's input or a shortcut's convolution.
    """

    name: str
    n: int
    c: int
    k: int
    side: int
    out: int
    kernel: int
    stride: int
    rate: int
    source: "Conv | None"
    residual: "Conv | None" = None
    shortcut: bool = False
    norm: bool = True
    consumers: int = 0

    @property
    def inputs(self) -> int:
        return self.n * self.c * self.side**2

    @property
    def outputs(self) -> int:
        return self.n * self.k * self.out**2

    @property
    def weights(self) -> int:
        return self.k * self.c * self.kernel**2

    @property
    def dense(self) -> float:
        """Return the operations forward, two for each multiply-add; as many for either gradient."""
        return 2.0 * self.outputs * self.c * self.kernel**2

    @property
    def flops(self) -> float:
        """Without the taps that read padding."""
        reads = range(-(self.kernel // 2) * self.rate, (self.kernel // 2) * self.rate + 1, self.rate)
        inside = sum(0 <= o * self.stride + r < self.side for o in range(self.out) for r in reads)
        return self.dense * (inside / (self.out * self.kernel)) ** 2


def convolutions(model: DeepLabV3, batch: int, crop: int) -> list[Conv]:
    """Return the convolutions of a training step with square crops; a head's auxiliary parts included."""
    found: list[Conv] = []

    def add(name: str, module: nn.Module, side: int, source: Conv | None, **more: object) -> Conv:
        conv = cast(nn.Conv2d, module)
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        out = -(-side // stride)
        if source is not None:
            source.consumers += 1
        found.append(
            Conv(
                name,
                batch,
                conv.in_channels,
                conv.out_channels,
                side,
                out,
                kernel,
                stride,
                conv.dilation[0],
                source,
                **more,  # type: ignore[arg-type]
            )
        )
        return found[-1]

    backbone = model.backbone
    last = add("stem", backbone.conv1, crop, None)
    side = -(-last.out // 2)
    source: Conv | None = None  # the first block reads the pooled activation
    for stage in range(1, 5):
        for b, block in enumerate(getattr(backbone, f"layer{stage}")):
            block = cast(BasicBlock | Bottleneck, block)
            name, inner, entry = f"layer{stage}.{b}", source, source
            convs = [block.conv1, block.conv2, *([block.conv3] if isinstance(block, Bottleneck) else [])]
            map_ = side
            for i, conv in enumerate(convs[:-1]):
                inner = add(f"{name}.conv{i + 1}", conv, map_, inner)
                map_ = inner.out
            residual = entry
            if block.downsample is not None:
                residual = add(f"{name}.downsample", block.downsample[0], side, entry, shortcut=True)
            elif entry is not None:
                entry.consumers += 1
            source = last = add(f"{name}.conv{len(convs)}", convs[-1], map_, inner, residual=residual)
            side = last.out
    aspp, *extra, classifier = cast(Iterable[Any], model.classifier)
    for i, branch in enumerate(aspp.convs[:-1]):
        add(f"aspp.{i}", cast(nn.Sequential, branch)[0], side, last)
    last.consumers += 1  # image pooling
    add("aspp.pooling", cast(nn.Sequential, aspp.convs[-1])[1], 1, None)
    source = add("aspp.project", cast(nn.Sequential, aspp.project)[0], side, None)
    if extra:
        source = add("head", extra[0], side, source)
    add("classifier", classifier, side, source, norm=False)
    return found


def step_parts(model: DeepLabV3, batch: int, crop: int, element: int = 2) -> Iterator[Part]:
    """Return the kernels of a training step; ``element`` bytes an activation."""
    convs = convolutions(model, batch, crop)
    pooled = batch * convs[0].k * (-(-convs[0].out // 2)) ** 2
    for conv in convs:
        x, y, w = element * conv.inputs, element * conv.outputs, conv.weights
        yield Part(FORWARD, conv.name, conv.flops, conv.dense, x + y + element * w)
        if conv is not convs[0]:
            moved = x + y + element * w + element * _epilogue(conv, convs)
            yield Part(INPUT_GRADIENT, conv.name, conv.flops, conv.dense, moved)
        yield Part(WEIGHT_GRADIENT, conv.name, conv.flops, conv.dense, x + y + 4 * w)
        if conv is convs[0]:  # with the pooling; one byte says which of a window was the largest
            both = (element + 1) * pooled
            yield Part(NORMALISE, conv.name, 0, 0, (y + both) + (both + y) + (both + 2 * y))
        elif conv.norm:
            added = 0 if conv.residual is None else element * conv.residual.outputs
            forward = 0 if conv.shortcut else 2 * y + added  # a shortcut's is done with what it is added to
            yield Part(NORMALISE, conv.name, 0, 0, forward + 3 * y)
    features = next(c for c in convs if c.name == "aspp.0")
    yield Part(NORMALISE, "image pooling", 0, 0, element * features.inputs)
    yield Part(LOSS, "loss", 0, 0, batch * crop**2 + 2 * 4 * convs[-1].outputs)
    parameters = sum(p.numel() for p in model.parameters())
    yield Part(OPTIMISER, "SGD", 0, 0, (20 + 2) * parameters)  # fp32 gradient, weight and momentum; a bf16 weight


def _epilogue(conv: Conv, convs: list[Conv]) -> int:
    """Return how many activations the input gradient of ``conv`` reads for the gradient of its source's raw output."""
    source = conv.source
    if source is None:
        return 0
    if source.residual is None:
        return source.outputs if source.consumers == 1 else 0
    if conv is not next(c for c in convs if c.source is source):
        return 0
    # The last of them to run: the other readers' gradients, the activation for its mask, the raw output for the sums.
    shortcut = source.residual.outputs if source.residual.shortcut else 0
    return (source.consumers - 1 + 2) * source.outputs + shortcut


def floor(parts: list[Part], roof: Roof) -> dict[str, float]:
    """Return the seconds of each category."""
    return {name: sum(p.floor(roof) for p in parts if p.category == name) for name in CATEGORIES}


_SIDE, _BYTES = {"cuda": 8192, "cpu": 2048}, {"cuda": 1 << 30, "cpu": 1 << 28}


def measure_roof(device: torch.device, dtype: torch.dtype, rounds: int = 9) -> Roof:
    """Measure ``device``: a large product in ``dtype``, and a large copy, bytes read and written; medians."""
    side, kind = _SIDE[device.type], device.type
    generator = torch.Generator(device).manual_seed(0)  # of its own: training draws from the global one
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    source = torch.randn(_BYTES[kind] // 4, generator=generator, device=device)
    target = torch.empty_like(source)
    product = _median_seconds(lambda: torch.mm(a, b, out=out), rounds, device)
    copy = _median_seconds(lambda: target.copy_(source), rounds, device)
    return Roof(2 * side**3 / product, 2 * _BYTES[kind] / copy)


def _median_seconds(work: Callable[[], Any], rounds: int, device: torch.device) -> float:
    found = []
    for i in range(-2, rounds):  # two to warm up
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= 0:
            found.append(time.perf_counter() - start)
    return statistics.median(found)
