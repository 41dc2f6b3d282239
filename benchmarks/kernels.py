"""The fused kernels on the network's own layer shapes, beside torch eager and torch.compile.

``python -m benchmarks.run kernels`` prints a table and, with ``--out``, writes JSON and markdown. Results are
compared before anything is timed: ours may be no further from fp64 than twice (gradients: three times) torch's.
``--dry_run=True`` goes through everything with tiny shapes, on a CPU in Triton's interpreter.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from deeplab_fast.cli import run
from deeplab_fast.runtime import DTYPES
from deeplab_fast.runtime.environment import environment

from .agreement import Check, relative, require
from .cases.conv import conv_cases
from .cases.kernel import COMPILED, DRY_RUN, EAGER, OURS, Case, KernelsConfig, kernel_device, sides
from .cases.loss import argmax_case, loss_case
from .cases.norm import norm_cases, pool_case
from .report import as_table, as_text, beside, configure, save_results, settings
from .timing import Timing, captured, interleave_on_device

COPY = "copy"
_TIES = 1e-3


def cases(config: KernelsConfig, device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    yield loss_case(config, device, dtype, 21)
    if not config.dry_run:
        yield loss_case(config, device, dtype, 150)
    yield pool_case(config, device, dtype)
    for layer, (side, channels) in sides(config.crop_size).items():
        yield from norm_cases(config, device, dtype, layer, side, channels // 32 if config.dry_run else channels)
    yield from conv_cases(config, device, dtype)
    for views in (1, 2) if config.dry_run else (1, 10):
        yield argmax_case(config, device, dtype, views)


def check(case: Case) -> tuple[dict[str, float], list[Check]]:
    """Return each implementation's worst relative error against fp64, and ours beside their limits.
    Where a part of a case is timed alone, it is the whole case that is checked.

    Raises:
        UserError: ours are further from it than twice torch's (gradients: three times), or see other classes.
    """
    if case.exact is None:
        return {}, _class_checks(case)
    truth = case.exact()
    errors = {name: [_error(a, t) for a, t in zip(step(), truth, strict=True)] for name, step in case.steps.items()}
    checks = [
        relative(f"result {i}", found, max((3 if i else 2) * theirs, 1e-5))
        for i, (found, theirs) in enumerate(zip(errors[OURS], errors[EAGER], strict=True))
    ]
    for one in checks:
        require(one, f"{case.name}: {one}, {2 if one is checks[0] else 3} times torch's")
    return {name: max(values) for name, values in errors.items()}, checks


def _class_checks(case: Case) -> list[Check]:
    """Check implementations that give classes: near a tie roundings may see another, in one of 1,000 pixels."""
    if EAGER not in case.steps:
        return []
    pairs = list(zip(case.steps[OURS](), case.steps[EAGER](), strict=True))
    pixels = sum(torch.as_tensor(theirs).numel() for _, theirs in pairs)
    differing = sum(int((torch.as_tensor(a) != torch.as_tensor(b)).sum()) for a, b in pairs)
    one = Check("pixels of another class", differing, _TIES * pixels, pixels > 0)
    return [require(one, f"{case.name}: {differing:,} pixels are of another class; expected at most {one.limit:,.0f}")]


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def copy_bandwidth(rounds: int, device: torch.device) -> float:
    """Bytes a second, read and written, of a copy much larger than any cache."""
    source = torch.randn((1 << 28 if device.type == "cuda" else 1 << 20) // 4, device=device)
    target = torch.empty_like(source)
    timing = interleave_on_device({COPY: lambda: target.copy_(source)}, rounds)[COPY]
    return 2 * 4 * source.numel() / timing.median


def measure(case: Case, config: KernelsConfig, bandwidth: float) -> dict[str, Any]:
    from deeplab_fast.ops.norm.triton.bytes_moved import bytes_moved

    errors, checks = check(case)
    rounds = 4 if config.dry_run else config.rounds
    capturable = not case.name.startswith("upsample_argmax")  # its targets come from the host
    steps = {name: captured(step) if capturable else step for name, step in case.steps.items()}
    timings: dict[str, Timing] = interleave_on_device(steps, rounds)
    entry: dict[str, Any] = {
        "errors": errors,
        "checks": [one.as_dict() for one in checks],
        **beside(timings, OURS),
    }
    if case.launches:
        moved = sum(bytes_moved(one).moved for one in case.launches)
        entry["megabytes"] = moved / 1e6
        entry["share_of_copy"] = moved / timings[OURS].median / bandwidth
    return entry


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Kernels, {config['precision']}, batch {config['batch_size']}, crop {config['crop_size']}: {where['device']},"
        f" torch {where['torch']}, triton {where.get('triton')}, {where['date']}."
        f" A copy moves {results['copy_bandwidth'] / 1e9:.0f} GB/s."
    )
    rows = []
    for name, entry in results["cases"].items():
        ours = entry["timings"][OURS]
        cells = [name, f"{ours['median_ms']:.3f} ({ours['q1_ms']:.3f} - {ours['q3_ms']:.3f})"]
        for peer in (EAGER, COMPILED):
            peer_time, ratio = entry["timings"].get(peer), entry["ratios"].get(peer)
            cells += [f"{peer_time['median_ms']:.3f}", f"{ratio['median']:.2f}"] if ratio else ["", ""]
        share = entry.get("share_of_copy")
        rows.append([*cells, *([f"{entry['megabytes']:.0f}", f"{share:.0%}"] if share else ["", ""])])
    header = (
        "what | ours, ms (quartiles) | torch eager, ms | ours is faster by | torch.compile, ms | ours is faster by"
        " | MB | of a copy's bandwidth"
    )
    return as_text(title, as_table(header, rows), *([DRY_RUN] if config["dry_run"] else []))


def main(argv: list[str]) -> int:
    config = configure(KernelsConfig, argv, "kernels")
    device = kernel_device(config.dry_run)
    if config.dry_run:
        config = replace(config, batch_size=2, crop_size=33, precision="fp32")
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, for the peers too
    bandwidth = copy_bandwidth(config.rounds, device)
    results: dict[str, Any] = {
        "environment": environment(device),
        "config": settings(config),
        "copy_bandwidth": bandwidth,
        "cases": {},
    }
    for case in cases(config, device, DTYPES[config.precision]):
        if config.only in case.name:
            results["cases"][case.name] = measure(case, config, bandwidth)
            print(f"{case.name}: {results['cases'][case.name]['timings'][OURS]['median_ms']:.3f} ms", flush=True)
            if config.out:  # what was measured stays, should the rest not be reached
                save_results(config.out, "kernels", results, as_markdown(results))
    print(as_markdown(results), end="")
    return 0


if __name__ == "__main__":
    run(main)
