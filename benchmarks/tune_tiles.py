"""Table of the convolutions that our kernels are ahead in on this GPU, and by which tiles: ``--fused=auto`` reads it.

``python -m benchmarks.run tune_tiles`` times the convolutions of the network. First each of our kernels by each tile
that it may have; then, by the fastest, forward and backward with the statistics of the output beside the vendor's
library followed by the pass that takes them. A bottleneck's convolutions by CUTLASS (on Hopper) are timed as they are
there: from the raw output before to their own, the normalisation between included, whose sums ours makes in an
epilogue. It writes ``deeplab_fast/ops/conv/measured.json`` (or ``--table``) for the GPU of this name; those of others
stay as they are. ``--dry_run=True`` goes through it with tiny shapes, on a CPU in Triton's interpreter.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.errors import UserError
from deeplab_fast.ops.conv import gemm, gemm_check
from deeplab_fast.ops.conv.measurements import MEASURED, predicted, shape_class
from deeplab_fast.ops.triton import device_info
from deeplab_fast.ops.triton.tiles import FORWARD, ConvTile, candidates
from deeplab_fast.runtime import DTYPES, prepare_backends
from deeplab_fast.runtime.environment import environment
from deeplab_fast.storage.files import replace_file

from .agreement import Check, relative, require
from .cases.kernel import DRY_RUN, kernel_device
from .cases.layers import OURS, VENDOR, Layer, Step, both, kernel, layers, with_tiles
from .report import as_table, as_text, configure, save_results, settings, spread
from .timing import captured, interleave_on_device


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Tuning"""

    batch_size: int = flag(32, "Images.", minimum=1)
    crop_size: int = flag(513, "Side of the images.", minimum=17)
    precision: Literal["bf16", "fp16"] = flag("bf16", "Type of the activations.")
    rounds: int = flag(30, "Timed rounds.", minimum=4)
    table: str = flag(str(MEASURED), "The table to write.")
    dry_run: bool = flag(False, "Tiny shapes, fp32, in the interpreter where there is no GPU; writes no table.")
    out: str = flag("", "Folder for tune_tiles.json and tune_tiles.md.")


def checks_of(layer: Layer, steps: dict[str, Step]) -> list[Check]:
    """Compare each result of the two.

    Raises:
        UserError: they differ by more than their roundings.
    """
    # A result that is rounded once to bf16 is 2e-3 of a norm off; through a normalisation four roundings meet, of each.
    most = 0.01 if layer.pending else 0.005
    checks = []
    for i, (a, b) in enumerate(zip(steps[OURS](), steps[VENDOR](), strict=True)):
        error = float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-30))
        check = relative(f"result {i}, against the library's", error, most)
        checks.append(require(check, f"{layer}: {check}"))
    return checks


def sweep(
    layer: Layer, config: TuneConfig, device: torch.device, dtype: torch.dtype
) -> dict[str, dict[ConvTile, float]]:
    """Milliseconds of each of our kernels, by each of its tiles; one that cannot be launched is left out, and said."""
    found: dict[str, dict[ConvTile, float]] = {}
    for use in layer.uses:
        run = kernel(layer, use, config.batch_size, dtype, device)
        columns = layer.k if use == FORWARD else layer.c
        steps: dict[ConvTile, Callable[[], Any]] = {}
        for tile in candidates(columns, device_info.architecture(device)):
            try:
                steps[tile] = captured(partial(run, tile))
            except RuntimeError as error:
                print(f"{layer}: {use}: no {tile.label}: {str(error).splitlines()[0]}", flush=True)
        timings = interleave_on_device(steps, config.rounds)
        found[use] = {tile: 1e3 * timing.median for tile, timing in timings.items()}
    return found


def measure(layer: Layer, config: TuneConfig, device: torch.device, dtype: torch.dtype) -> tuple[str, dict[str, Any]]:
    map_ = layer.map_(config.batch_size)
    swept = sweep(layer, config, device, dtype)
    best = {use: min(times, key=times.__getitem__) for use, times in swept.items()}
    steps = both(layer, config.batch_size, dtype, device)
    steps[OURS] = with_tiles(best, steps[OURS])
    checks = checks_of(layer, steps)
    timings = interleave_on_device({name: captured(step) for name, step in steps.items()}, config.rounds)
    architecture = device_info.architecture(device)
    guess = predicted(layer.c, layer.k, layer.rates, map_, architecture, device_info.multiprocessors(device))
    entry = {
        "checks": [one.as_dict() for one in checks],
        "ours_ms": 1e3 * timings[OURS].median,
        "vendor_ms": 1e3 * timings[VENDOR].median,
        "ratio": timings[VENDOR].over(timings[OURS]).summary(),
        "predicted_forward_ms": [1e3 * seconds for seconds in guess],
        "tiles": {use: tile.label for use, tile in best.items()},
        "tile_ms": {use: {tile.label: ms for tile, ms in times.items()} for use, times in swept.items()},
    }
    return shape_class(layer.kind, layer.c, layer.k, layer.rates, map_), entry


def product_missing(layer: Layer, dtype: torch.dtype, device: torch.device) -> str | None:
    """Say why CUTLASS's kernels cannot be timed, or None."""
    x = torch.empty(1, layer.c, 1, 1, dtype=dtype, device=device)
    rate = max(layer.rates)
    reason = gemm.supports(x, layer.k, rate)
    return reason or gemm_check.disagreement(device, "3x3" if rate else "1x1")


def write_table(path: Path, gpu: str, where: dict[str, Any], shapes: dict[str, Any]) -> None:
    tables = json.loads(path.read_text()) if path.exists() else {}
    versions = {name: where.get(name) for name in ("date", "torch", "triton")}
    tables[gpu] = {**versions, "shapes": shapes}
    with replace_file(path, durable=False) as partial_file:
        partial_file.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Convolutions with the statistics of their output, forward and backward, {config['precision']}, batch"
        f" {config['batch_size']}, crop {config['crop_size']}: {where['device']}, torch {where['torch']},"
        f" {where['date']}."
    )
    rows = []
    for name, entry in results["shapes"].items():
        ours, theirs = (f"{entry[key]:.3f}" for key in ("ours_ms", "vendor_ms"))
        tiles = "; ".join(f"{use} {label}: {entry['tile_ms'][use][label]:.3f}" for use, label in entry["tiles"].items())
        guess = ", ".join(f"{ms:.3f}" for ms in entry["predicted_forward_ms"])
        rows.append((name, ours, theirs, spread(entry["ratio"]), tiles, guess))
    header = (
        "shape | ours, ms | library, ms | ours is faster by | our tiles (pixels x channels x summed, warps, stages,"
        " programs a multiprocessor): ms | forward as predicted, ms: ours, library"
    )
    return as_text(title, as_table(header, rows), *([DRY_RUN] if config["dry_run"] else []))


def main(argv: Sequence[str]) -> int:
    config = configure(TuneConfig, argv, "tune_tiles")
    device = kernel_device(config.dry_run)
    if config.dry_run:
        config = replace(config, batch_size=2, crop_size=17, rounds=4)
    dtype = torch.float32 if config.dry_run and device.type == "cpu" else DTYPES[config.precision]
    torch.manual_seed(0)
    prepare_backends(device)  # the library as training has it
    shapes: dict[str, Any] = {}
    where = environment(device)
    results = {"environment": where, "config": settings(config, "table"), "shapes": shapes}
    failed = 0
    for layer in layers(config.crop_size, 8 if config.dry_run else 1):
        left_out = layer.is_product and device.type == "cuda" and product_missing(layer, dtype, device)
        if left_out:
            print(f"{layer}: left out: {left_out}", flush=True)
            continue
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
            write_table(Path(config.table), device_info.name(device), where, shapes)
    print(as_markdown(results), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
