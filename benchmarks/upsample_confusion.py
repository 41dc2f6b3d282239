"""Confusion matrix from low-resolution logits on the CPU with all threads: the extension beside plain torch.

``python -m benchmarks.upsample_confusion`` prints a table. Plain torch is ``F.interpolate``, ``argmax`` over classes
and ``bincount`` of ``label * classes + prediction``, with the ignored pixels taken out before counting or after it,
from contiguous and from channels_last logits. Counts are compared before timing.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config import flag, validate
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension

from .agreement import Check, relative
from .measure import Timing, environment, interleave, write_results
from .upsample_ce import CLASSES, CPU, IGNORE, OURS, case

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, kw_only=True)
class UpsampleConfusionConfig:
    """Confusion matrix from logits"""

    batch: int = flag(4, "Images.", minimum=1)
    low: int = flag(33, "Side of the logits: 33 at output stride 16, 65 at 8.", minimum=2)
    high: int = flag(513, "Side of the labels.", minimum=2)
    rounds: int = flag(15, "Timed rounds.", minimum=4)
    out: str = flag("", "Folder for upsample_confusion.json and upsample_confusion.md.")


def _predictions(logits: Tensor, labels: Tensor) -> Tensor:
    return F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True).argmax(1)


def without_ignored(logits: Tensor, labels: Tensor) -> Tensor:
    """The field's usual way: ignored pixels are taken out, then pairs counted. Labels int64."""
    keep = labels != IGNORE
    pairs = labels[keep] * CLASSES + _predictions(logits, labels)[keep]
    return torch.bincount(pairs, minlength=CLASSES**2).view(CLASSES, CLASSES)


def with_ignored(logits: Tensor, labels: Tensor) -> Tensor:
    """All pairs are counted, and the ignore label's counts dropped: no copy of the maps."""
    pairs = (labels * CLASSES).add_(_predictions(logits, labels))
    return torch.bincount(pairs.view(-1), minlength=256 * CLASSES)[: CLASSES**2].view(CLASSES, CLASSES)


def by_us(pixels_last: Tensor, labels: Tensor) -> Tensor:
    """From logits ``[N, h, w, C]`` and labels uint8."""
    native, reason = extension.load()
    if native is None:
        raise UserError(f"the extension is needed: {reason}")
    counts = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    native.count_upsampled(pixels_last.numpy(), labels.numpy(), True, IGNORE, torch.get_num_threads(), counts.numpy())
    return counts


def measure(batch: int, low: int, high: int, rounds: int) -> tuple[dict[str, Timing], Check]:
    """Measure seconds for each; check the pixels that a way of torch's counts in another cell (near ties).

    Raises:
        UserError: they are more than one in 10,000, or a class has other true pixels.
    """
    logits, labels = case(batch, low, high)
    wide_labels = labels.long()
    pixels_last = logits.permute(0, 2, 3, 1).contiguous()
    runs: dict[str, Callable[[], Tensor]] = {OURS: lambda: by_us(pixels_last, labels)}
    for name, layout in LAYOUTS.items():
        laid_out = logits.contiguous(memory_format=layout)
        for count in (without_ignored, with_ignored):
            label = f"torch, {name}, {count.__name__.replace('_', ' ')}"
            runs[label] = lambda laid_out=laid_out, count=count: count(laid_out, wide_labels)  # type: ignore[misc]
    ours = by_us(pixels_last, labels)
    differing = 0.0
    for name, step in runs.items():
        counts = step()
        differing = max(differing, (counts - ours).abs().sum().item() / 2 / labels.numel())
        if not torch.equal(counts.sum(1), ours.sum(1)):
            raise UserError(f"{name}: the classes have other true pixels than by ours")
    check = relative("share of the pixels that torch counts in another cell", differing, 1e-4)
    if check.failed:
        raise UserError(str(check))
    return interleave(runs, rounds, 2, CPU), check


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    lines = [
        f"Upsampling, argmax and counting: {config['batch']} x {CLASSES} x {config['low']} x {config['low']} to"
        f" {config['high']} x {config['high']}, fp32, {where['device']}, {where['date']}. torch {where['torch']}."
        f" Near ties: {results['differing']:.1e} of the pixels are counted elsewhere by torch.",
        "",
        "| by | median, ms | quartiles | ours is faster by |",
        "|---|---|---|---|",
    ]
    for name, t in results["timings"].items():
        found = results["ratios"].get(name)
        faster = f"{found['median']:.1f} ({found['q1']:.1f} - {found['q3']:.1f})" if found else ""
        lines.append(f"| {name} | {t['median_ms']:.2f} | {t['q1_ms']:.2f} - {t['q3_ms']:.2f} | {faster} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    what = "Time counting from low-resolution logits."
    config = UpsampleConfusionConfig(
        **parse_flags(UpsampleConfusionConfig, argv, "benchmarks.upsample_confusion", what)
    )
    validate(config)
    timings, check = measure(config.batch, config.low, config.high, config.rounds)
    results = {
        "environment": environment(CPU),
        "config": {k: v for k, v in asdict(config).items() if k != "out"},
        "differing": check.found,
        "checks": [check.as_dict()],
        "timings": {name: t.in_ms() for name, t in timings.items()},
        "ratios": {name: t.over(timings[OURS]).summary() for name, t in timings.items() if name != OURS},
    }
    write_results(config.out, "upsample_confusion", results, as_markdown(results))
    return 0


def test_upsample_confusion() -> None:
    """A short run: counts agree, and ours is at least twice as fast as any way of torch."""
    timings, _ = measure(4, 33, 513, 5)
    for name in timings.keys() - {OURS}:
        faster = timings[name].over(timings[OURS]).median
        print(f"{name}: {faster:.1f}")
        assert faster > 2


if __name__ == "__main__":
    run(main)
