"""Which convolutions our kernels are ahead in on this GPU: the table that ``--fused=auto`` goes by.

``python -m benchmarks.tune_tiles`` times forward and backward, with the statistics of the output, of every 1x1 and
atrous convolution of the network beside the vendor's library followed by the pass that takes the statistics, and
writes ``deeplab_fast/ops/conv_measured.json`` (or ``--table``) for this GPU's architecture, what other architectures'
entries say left as it is. ``--dry_run=True`` goes through it with tiny shapes, on a CPU in Triton's interpreter.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config import flag, validate
from deeplab_fast.errors import UserError
from deeplab_fast.ops.batch_moments import batch_moments, merge_moments
from deeplab_fast.ops.conv_branches import conv_branches, conv_branches_reference
from deeplab_fast.ops.conv_choice import MEASURED, predicted, shape_class
from deeplab_fast.ops.layout import pixel_major
from deeplab_fast.ops.triton import chip, missing
from deeplab_fast.ops.triton.schedule import PixelMap
from deeplab_fast.runtime import DTYPES, prepare_backends

from .device_timing import captured, interleave_on_device
from .kernel_cases import activation, sides
from .measure import environment, save_results

OURS, VENDOR = "ours", "library"


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Tuning"""

    batch_size: int = flag(32, "Images.", minimum=1)
    crop_size: int = flag(513, "Side of the images.", minimum=17)
    precision: str = flag("bf16", "Type of the activations.", choices=("bf16", "fp16"))
    rounds: int = flag(30, "Timed rounds.", minimum=4)
    table: str = flag(str(MEASURED), "The table to write.")
    dry_run: bool = flag(False, "Tiny shapes, fp32, in the interpreter where there is no GPU; writes no table.")
    out: str = flag("", "Folder for tune_tiles.json and tune_tiles.md.")


class Layer(NamedTuple):
    """Convolutions of one input ``[N, c, side, side]``; rate 0 is 1x1."""

    kind: str
    c: int
    k: int
    side: int
    rates: tuple[int, ...]


def layers(config: TuneConfig) -> Iterator[Layer]:
    """Those of ResNet-101 at output stride 16 with the multi-grid, and its ASPP."""
    inner = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
    of = sides(config.crop_size)
    small = 8 if config.dry_run else 1
    for stage, planes in inner.items():
        side, p = of[f"{stage} out"][0], planes // small
        yield Layer("conv1x1_bn", 4 * p, p, side, (0,))
        yield Layer("conv1x1_bn", p, 4 * p, side, (0,))
    low = of["layer4 out"][0]
    for rate in (2, 4, 8):
        yield Layer("atrous_conv_bn_relu", 512 // small, 512 // small, low, (rate,))
    yield Layer("conv1x1_bn", 1280 // small, 256 // small, low, (0,))
    yield Layer("aspp", 2048 // small, 256 // small, low, (0, 6, 12, 18))


def steps(layer: Layer, n: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], list[Tensor]]]:
    """Forward, statistics and backward of both."""
    x = activation((n, layer.c, layer.side, layer.side), dtype, device)
    channels = layer.k * len(layer.rates)
    dy = activation((n, channels, layer.side, layer.side), dtype, device)
    if any(layer.rates):
        x_ours, dy_ours = pixel_major(x), pixel_major(dy)
    else:
        x_ours, dy_ours = x, dy
    leaves = [t.detach().requires_grad_() for t in (x_ours, x)]
    weights = [
        (torch.randn(layer.k, layer.c, *(2 * [3 if r else 1]), device=device) * 0.05)
        .to(dtype, memory_format=torch.channels_last)
        .requires_grad_()
        for r in layer.rates
    ]
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        y, parts = conv_branches(leaves[0], weights, layer.rates)
        moments = merge_moments(parts, *statistics, 0.1)
        return [y.detach(), *moments, *torch.autograd.grad(y, [leaves[0], *weights], dy_ours)]

    def library() -> list[Tensor]:
        y = conv_branches_reference(leaves[1], weights, layer.rates)
        moments = batch_moments(y.detach(), *statistics, 0.1)
        return [y.detach(), *moments, *torch.autograd.grad(y, [leaves[1], *weights], dy)]

    return {OURS: ours, VENDOR: library}


def check(layer: Layer, both: dict[str, Callable[[], list[Tensor]]]) -> None:
    """Raise :class:`UserError` unless the two agree as far as their roundings go."""
    for i, (a, b) in enumerate(zip(both[OURS](), both[VENDOR](), strict=True)):
        error = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))
        if not error <= 0.005:  # each result is rounded once: 2e-3 of a norm where that is to bf16
            raise UserError(f"{layer}: result {i} differs from the library's by {error:.1e}")


def measure(layer: Layer, config: TuneConfig, device: torch.device, dtype: torch.dtype) -> tuple[str, dict[str, Any]]:
    n, side = config.batch_size, layer.side
    map_ = PixelMap(side, side, n) if any(layer.rates) else PixelMap(1, n * side * side, 1)
    both = steps(layer, n, dtype, device)
    check(layer, both)
    timings = interleave_on_device({name: captured(step) for name, step in both.items()}, config.rounds)
    architecture = chip.architecture(device)
    guess = predicted(layer.c, layer.k, layer.rates, map_, architecture, chip.multiprocessors(device))
    entry = {
        "ours_ms": 1e3 * timings[OURS].median,
        "vendor_ms": 1e3 * timings[VENDOR].median,
        "ratio": timings[VENDOR].over(timings[OURS]).summary(),
        "predicted_forward_ms": [1e3 * seconds for seconds in guess],
    }
    return shape_class(layer.kind, layer.c, layer.k, layer.rates, map_), entry


def write_table(path: Path, architecture: int, where: dict[str, Any], shapes: dict[str, Any]) -> None:
    tables = json.loads(path.read_text()) if path.exists() else {}
    tables[f"sm_{architecture}"] = {
        "gpu": where["device"], "date": where["date"], "torch": where["torch"], "triton": where.get("triton"),
        "shapes": shapes,
    }  # fmt: skip
    path.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    lines = [
        f"Convolutions with the statistics of their output, forward and backward, {config['precision']}, batch"
        f" {config['batch_size']}, crop {config['crop_size']}: {where['device']}, torch {where['torch']},"
        f" {where['date']}.",
        "",
        "| shape | ours, ms | library, ms | ours is faster by | forward as predicted, ms: ours, library |",
        "|---|---|---|---|---|",
    ]
    for name, entry in results["shapes"].items():
        ratio, guess = entry["ratio"], entry["predicted_forward_ms"]
        lines.append(
            f"| {name} | {entry['ours_ms']:.3f} | {entry['vendor_ms']:.3f} |"
            f" {ratio['median']:.2f} ({ratio['q1']:.2f} - {ratio['q3']:.2f}) | {guess[0]:.3f}, {guess[1]:.3f} |"
        )
    if config["dry_run"]:
        lines.append("\nA dry run: tiny shapes, and the times mean nothing.")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    config = TuneConfig(**parse_flags(TuneConfig, list(argv), "benchmarks.tune_tiles", "Time the convolutions."))
    validate(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if reason := missing(device):
        raise UserError(f"the kernels cannot run: {reason}")
    if device.type == "cpu" and not config.dry_run:
        raise UserError("no CUDA GPU: only --dry_run=True makes sense here")
    if config.dry_run:
        small = {"batch_size": 2, "crop_size": 17, "rounds": 4}
        config = TuneConfig(**asdict(config) | small)
    dtype = torch.float32 if config.dry_run and device.type == "cpu" else DTYPES[config.precision]
    torch.manual_seed(0)
    prepare_backends(device)  # the library as training has it
    shapes: dict[str, Any] = {}
    where = environment(device)
    results = {
        "environment": where,
        "config": {k: v for k, v in asdict(config).items() if k not in ("out", "table")},
        "shapes": shapes,
    }
    failed = 0
    for layer in layers(config):
        try:
            name, entry = measure(layer, config, device, dtype)
        except (UserError, RuntimeError) as error:  # the others are worth measuring
            print(f"FAILED: {layer}: {str(error).splitlines()[0]}", flush=True)
            failed += 1
            continue
        shapes[name] = entry
        print(f"{name}: {entry['ours_ms']:.3f} ms, library {entry['vendor_ms']:.3f} ms", flush=True)
        if config.out:  # what there is, should the time run out
            save_results(config.out, "tune_tiles", results, as_markdown(results))
        if not config.dry_run:
            write_table(Path(config.table), chip.architecture(device), where, shapes)
    print(as_markdown(results), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
