"""One training step, ours beside torchvision's of the same graph: eager and compiled, each also as a CUDA graph, and
compiled with max-autotune.

``python -m benchmarks.run train_step`` prints a table and, with ``--out``, writes JSON, markdown and a chart;
``pytest benchmarks/train_step.py`` runs it under pytest-benchmark and holds us to not being slower.

All are DeepLabV3 with torchvision's head, start from the same weights, see the same random images and labels, and use
channels-last storage, the same autocast and fused SGD. Loss and gradients are compared before anything is timed, and
our fp32 gradients, parameter by parameter, before anything is built. Ours is the trainer's own step, schedule and
bookkeeping included.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deeplab_fast.cli import run
from deeplab_fast.config import PRECISIONS, ModelConfig
from deeplab_fast.config.flags import flag
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.runtime import DTYPES, check_precision, prepare_backends, select_device
from deeplab_fast.runtime.environment import environment
from deeplab_fast.training import roofline

from .agreement import Check, parameter_check
from .cases.bench import Bench
from .cases.implementations import (
    AUTOTUNED,
    COMPILED,
    COMPILED_GRAPHED,
    EAGER,
    EAGER_GRAPHED,
    KINDS,
    NAMES,
    OURS,
    OURS_COMPILED,
    OURS_RECOMPUTED,
    Data,
    StepConfig,
    build,
    first_weights,
    some_of,
    truth,
)
from .chart import Bar, bar_chart
from .regression import compare
from .report import as_table, as_text, configure, save_results, settings, spread, times

_BATCHES = 6  # at most, of the check of each parameter


@dataclass(frozen=True, kw_only=True)
class TrainStepConfig(StepConfig):
    """Step benchmark"""

    implementations: str = flag(
        "", f"Some of {', '.join(NAMES)}, commas between; default all on a GPU, on a CPU those worth their time."
    )
    precision: str = flag("fp32,bf16", "Precisions, commas between.")
    minutes: float = flag(0.0, "Begin no further implementation after this time; 0: no limit.", minimum=0)
    compare: str = flag("", "A train_step.json; fails where we are now more than 5 % slower.")
    out: str = flag("", "Folder for train_step.json, train_step.md and train_step.png.")


def gate(name: str, config: StepConfig, device: torch.device) -> Check:
    """Hold our fp32 gradients, by the kernels that ``--fused`` names, parameter by parameter to torchvision's in fp64.

    On small batches of its own, of the same network: in a large one roundings that tip values over ReLU's edge, which
    is no error, hide a kernel that is off by a percent. Where it happens in a small one, the next is tried.

    Raises:
        UserError: one parameter is further off than the limit.
    """
    small = replace(config, batch_size=2, crop_size=33)
    weights, data = first_weights(small), Data.random(small, device)
    ours = build(name, weights, small, "fp32", device, data)
    found = []
    for seed in range(_BATCHES):
        other = Data.random(small, device, seed)
        data.images.copy_(other.images)
        data.labels.copy_(other.labels)
        found.append(truth(weights, small, torch.float64, device, data).errors(*ours.gradient()))
        check = parameter_check(found)
        if not check.failed:
            return check
    raise UserError(f"{name}, fp32: {check}")


def floor_of(config: StepConfig, roof: roofline.Roof, precision: str) -> float:
    """Seconds, of the same graph."""
    model = ModelConfig(
        model=config.model, backbone=config.backbone, num_classes=config.num_classes, head="torchvision"
    )
    parts = list(
        roofline.step_parts(build_model(model), config.batch_size, config.crop_size, DTYPES[precision].itemsize)
    )
    return sum(roofline.floor(parts, roof).values())


def default_names(device: torch.device) -> list[str]:
    """Return those worth their time on the device; on a CPU the graphs, too, which say that they need a GPU."""
    if device.type != "cuda":
        return [OURS, EAGER, EAGER_GRAPHED, COMPILED_GRAPHED]
    return [OURS, OURS_RECOMPUTED, EAGER, EAGER_GRAPHED, COMPILED, COMPILED_GRAPHED, OURS_COMPILED, AUTOTUNED]


def measure(config: TrainStepConfig, device: torch.device) -> dict[str, Any]:
    """All precisions; saves what there is after each, and before the implementations that take long to compile."""
    start = time.perf_counter()
    names = (
        some_of(NAMES, "implementations", config.implementations) if config.implementations else default_names(device)
    )
    shown = settings(config, "compare")
    results: dict[str, Any] = {"environment": environment(device), "config": shown, "precisions": {}}
    precisions = some_of(PRECISIONS, "precision", config.precision)
    for precision in precisions:
        check_precision(precision, device)
    ungated = [name for name in names if not KINDS[name].is_ours or KINDS[name].compiled]
    results["checks"] = [
        {"implementation": name, **gate(name, config, device).as_dict()} for name in names if name not in ungated
    ]
    for precision in precisions:
        roof = roofline.measure_roof(device, DTYPES[precision])
        floor = floor_of(config, roof, precision)
        bench = Bench(config, precision, device)
        for name in names:
            if config.minutes and time.perf_counter() - start > 60 * config.minutes:
                bench.missing[name] = "not reached in time"
                continue
            if name in (COMPILED_GRAPHED, OURS_COMPILED, AUTOTUNED) and bench.built and device.type == "cuda":
                _keep(config, results, precision, bench, floor, roof)
            print(f"{precision}, {name}", flush=True)
            bench.add(name)
        _keep(config, results, precision, bench, floor, roof)
    return results


def _keep(
    config: TrainStepConfig,
    results: dict[str, Any],
    precision: str,
    bench: Bench,
    floor: float,
    roof: roofline.Roof,
) -> None:
    results["precisions"][precision] = {
        "roof": {"tflops": roof.flops / 1e12, "gb_per_s": roof.bandwidth / 1e9},
        **bench.results(floor),
    }
    if config.out:
        save_results(config.out, "train_step", results, as_markdown(results))
        draw(Path(config.out, "train_step.png"), results)


# ---------------------------------------------------------------- pytest-benchmark


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_not_slower_than_torchvision(precision: str, record_property: Any) -> None:
    """Interleaved in one run: the median of ours is at most the peer's."""
    bench = Bench(TrainStepConfig(), precision, select_device("auto"))
    for name in (OURS, EAGER):
        bench.add(name)
    timings = bench.timings()
    found = timings[OURS].over(timings[EAGER]).median
    record_property("ratio", found)
    print(f"\n{precision}: {found:.3f} of torchvision's eager step")
    assert found <= 1.0


# ---------------------------------------------------------------- command line


def title(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    return (
        f"One training step, {config['backbone']} OS{16 if config['model'].endswith('16') else 8},"
        f" batch {config['batch_size']}, crop {config['crop_size']}:"
        f" {where['device']}, torch {where['torch']}, {where['date']}"
    )


def as_markdown(results: dict[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = []
    for precision, entry in results["precisions"].items():
        for name, t in entry["implementations"].items():
            faster = spread(t.get("best_of_ours_is_faster_by"))
            peak = f"{t['peak_mb']:.0f}" if "peak_mb" in t else ""
            shares = f"{t['share_of_floor']:.0%}", f"{t['first_pass_s']:.1f}", peak, _gradient_check(t)
            rows.append((precision, name, times(t, 1), f"{t['images_per_s']:.2f}", faster, *shares))
        rows += [(precision, n, f"not measured: {why}", *[""] * 7) for n, why in entry["missing"].items()]
    header = (
        "precision | implementation | median, ms | quartiles, ms | images/s | our best is faster by (quartiles)"
        " | of the floor | first pass, s | peak, MB | gradient's error (limit)"
    )
    notes = [
        f"{precision}: the roofline's floor is {entry['floor_ms']:.1f} ms, at the {entry['roof']['tflops']:.3g} TFLOP/s"
        f" and {entry['roof']['gb_per_s']:.3g} GB/s that a large product and a large copy reached here."
        for precision, entry in results["precisions"].items()
    ]
    if "note" in results:
        notes.append(results["note"])
    notes += [
        f"{one['implementation']}, fp32, small batches: the {one['what']}, is {one['found']:.1e} off the exact"
        f" one (limit {one['limit']:.0e})."
        for one in results.get("checks", [])
    ]
    return as_text(f"{title(results)}.", as_table(header, rows), *notes)


def _gradient_check(entry: dict[str, Any]) -> str:
    for check in entry.get("checks", []):
        if check["what"] == "gradient":
            return f"{check['found']:.2g} ({check['limit']:.2g})"
    return "not recorded"


def draw(path: Path, results: dict[str, Any]) -> None:
    groups = {
        precision: {name: Bar(t["median_ms"], t["q1_ms"], t["q3_ms"]) for name, t in entry["implementations"].items()}
        for precision, entry in results["precisions"].items()
    }
    floors = {precision: entry["floor_ms"] for precision, entry in results["precisions"].items()}
    bar_chart(path, title(results), "ms a step, with quartiles", groups, floors)


def main(argv: Sequence[str]) -> int:
    config = configure(TrainStepConfig, argv, "train_step")
    device = select_device(config.device_target)
    prepare_backends(device)
    results = measure(config, device)
    print(as_markdown(results), end="")
    if config.compare:
        print(compare(results, config.compare), end="")
    return 0


if __name__ == "__main__":
    run(main)
