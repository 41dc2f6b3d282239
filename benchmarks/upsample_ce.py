"""Upsampling and cross-entropy, forward and gradient, on the CPU with all threads: the extension beside plain torch.

``python -m benchmarks.run upsample_ce`` prints a table. Plain torch is ``F.interpolate``, ``F.cross_entropy`` and
``backward`` in fp32, from contiguous and from channels_last logits. Losses and gradients are compared before timing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from deeplab_fast.runtime.environment import environment

from .agreement import Check, relative, require
from .report import as_table, as_text, beside, configure, publish, spread, times
from .timing import Timing, interleave

CLASSES, IGNORE = 21, 255
OURS = "ours"
LAYOUTS = {"torch, contiguous": torch.contiguous_format, "torch, channels_last": torch.channels_last}
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class UpsampleCeConfig:
    """Upsampling and cross-entropy"""

    batch: int = flag(4, "Images.", minimum=1)
    low: int = flag(33, "Side of the logits: 33 at output stride 16, 65 at 8.", minimum=2)
    high: int = flag(513, "Side of the labels.", minimum=2)
    rounds: int = flag(15, "Timed rounds.", minimum=4)
    out: str = flag("", "Folder for upsample_ce.json and upsample_ce.md.")


def case(batch: int, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Logits ``[N, C, h, w]`` and labels uint8 ``[N, H, W]``: objects of about 40 pixels, a tenth ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, CLASSES, low, low, generator=generator)
    coarse = torch.randint(0, CLASSES, (batch, 1, high // 40 + 1, high // 40 + 1), generator=generator)
    coarse[torch.rand(coarse.shape, generator=generator) < 0.1] = IGNORE
    return logits, F.interpolate(coarse.float(), (high, high))[:, 0].to(torch.uint8)


def by_torch(logits: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Summed loss and its gradient; labels int64, as F.cross_entropy wants them."""
    leaf = logits.detach().requires_grad_()
    full = F.interpolate(leaf, labels.shape[1:], mode="bilinear", align_corners=True)
    total = F.cross_entropy(full, labels, ignore_index=IGNORE, reduction="sum")
    total.backward()
    assert leaf.grad is not None
    return total.item(), leaf.grad


def by_us(pixels_last: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """The same, from and to ``[N, h, w, C]``."""
    native, reason = extension.load()
    if native is None:
        raise UserError(f"the extension is needed: {reason}")
    gradient = torch.empty_like(pixels_last)
    found = native.upsample_ce(
        pixels_last.numpy(), labels.numpy(), None, IGNORE, 0.0, True, torch.get_num_threads(), gradient.numpy()
    )
    return found[0], gradient


def measure(batch: int, low: int, high: int, rounds: int) -> tuple[dict[str, Timing], dict[str, float], list[Check]]:
    """Measure seconds for each, how far losses and gradients are from fp64's (relative), and ours by their limits.

    Raises:
        UserError: ours are beyond them.
    """
    logits, labels = case(batch, low, high)
    wide_labels = labels.long()
    pixels_last = logits.permute(0, 2, 3, 1).contiguous()
    exact_total, exact_gradient = by_torch(logits.double(), wide_labels)
    runs: dict[str, Callable[[], tuple[float, Tensor]]] = {OURS: lambda: by_us(pixels_last, labels)}
    for name, layout in LAYOUTS.items():
        laid_out = logits.contiguous(memory_format=layout)
        runs[name] = lambda laid_out=laid_out: by_torch(laid_out, wide_labels)  # type: ignore[misc]
    errors = {}
    for name, step in runs.items():
        total, gradient = step()
        gradient = gradient.permute(0, 3, 1, 2) if name == OURS else gradient
        errors[f"{name}: loss"] = abs(total - exact_total) / exact_total
        errors[f"{name}: gradient"] = ((gradient - exact_gradient).norm() / exact_gradient.norm()).item()
    checks = [relative("loss", errors[f"{OURS}: loss"], 1e-6), relative("gradient", errors[f"{OURS}: gradient"], 1e-5)]
    for one in checks:
        require(one, f"ours, against fp64: {one}")
    return interleave(runs, rounds, 2, CPU), errors, checks


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Upsampling and cross-entropy, forward and gradient: {config['batch']} x {CLASSES} x {config['low']} x"
        f" {config['low']} to {config['high']} x {config['high']}, fp32, {where['device']}, {where['date']}."
        f" torch {where['torch']}."
    )
    rows = [
        (name, times(t), spread(results["ratios"].get(name), 1), f"{results['errors'][f'{name}: gradient']:.1e}")
        for name, t in results["timings"].items()
    ]
    return as_text(title, as_table("by | median, ms | quartiles | ours is faster by | gradient's relative error", rows))


def main(argv: list[str]) -> int:
    config = configure(UpsampleCeConfig, argv, "upsample_ce")
    timings, errors, checks = measure(config.batch, config.low, config.high, config.rounds)
    results = {
        "errors": errors,
        "checks": [one.as_dict() for one in checks],
        **beside(timings, OURS),
    }
    return publish("upsample_ce", config, environment(CPU), results, as_markdown)


def test_upsample_ce() -> None:
    """A short run: results agree, and ours is at least twice as fast as either way of torch."""
    timings, _, _ = measure(2, 33, 513, 5)
    for name in LAYOUTS:
        faster = timings[name].over(timings[OURS]).median
        print(f"{name}: {faster:.1f}")
        assert faster > 2


if __name__ == "__main__":
    run(main)
