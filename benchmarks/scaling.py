"""Time of a step over batches and crops: ours beside torchvision's eager step.

``python -m benchmarks.run scaling`` prints a table and, with ``--out``, writes JSON, markdown and a chart. A size that
does not fit the memory is said so; agreement is checked at each.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import Precision
from deeplab_fast.runtime import prepare_backends, select_device
from deeplab_fast.runtime.environment import environment

from .cases.bench import Bench
from .cases.implementations import EAGER, NAMES, OURS, StepConfig, some_of
from .chart import Bar, bar_chart
from .report import as_table, as_text, configure, settings, spread, write_results


@dataclass(frozen=True, kw_only=True)
class ScalingConfig(StepConfig):
    """Scaling"""

    implementations: str = flag(f"{OURS},{EAGER}", "Those to time, commas between.")
    precision: Precision = flag("bf16", "Precision.")
    batches: tuple[int, ...] = flag((2, 8, 16, 32, 64), "Images a step.", minimum=2)
    crops: tuple[int, ...] = flag((257, 513, 769, 1025), "Sides of the images.", minimum=33)
    rounds: int = flag(10, "Timed steps of each implementation.", minimum=4)
    out: str = flag("", "Folder for scaling.json, scaling.md and scaling.png.")


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    names = config["implementations"].split(",")
    title = (
        f"Images a second, {config['backbone']}, {config['precision']}: {where['device']}, torch {where['torch']},"
        f" {where['date']}."
    )
    rows = []
    for entry in results["sizes"]:
        cells = []
        for name in names:
            found = entry["implementations"].get(name)
            cells.append(f"{found['images_per_s']:.2f}" if found else f"none: {entry['missing'].get(name, '')}")
        faster = spread(entry["implementations"].get(EAGER, {}).get("best_of_ours_is_faster_by"))
        rows.append((entry["crop_size"], entry["batch_size"], *cells, faster))
    return as_text(title, as_table(f"crop | batch | {' | '.join(names)} | ours is faster by (quartiles)", rows))


def draw(path: Path, results: dict[str, Any]) -> None:
    """For each crop, images a second by implementation and batch."""
    groups: dict[str, dict[str, Bar]] = {}
    for entry in results["sizes"]:
        bars = groups.setdefault(f"crop {entry['crop_size']}", {})
        for name, t in entry["implementations"].items():
            rates = [1e3 * entry["batch_size"] / t[key] for key in ("median_ms", "q3_ms", "q1_ms")]
            bars[f"{name}, batch {entry['batch_size']}"] = Bar(*rates)
    where = results["environment"]
    title = f"{results['config']['backbone']}, {results['config']['precision']}: {where['device']}, {where['date']}"
    bar_chart(path, title, "images a second, with quartiles", {k: v for k, v in groups.items() if v}, {})


def main(argv: list[str]) -> int:
    config = configure(ScalingConfig, argv, "scaling")
    names = some_of(NAMES, "implementations", config.implementations)
    device = select_device(config.device_target)
    prepare_backends(device)
    shown = settings(config, "batch_size", "crop_size")
    results: dict[str, Any] = {"environment": environment(device), "config": shown, "sizes": []}
    for crop in config.crops:
        for batch in config.batches:
            size = replace(config, batch_size=batch, crop_size=crop)
            at = {"crop_size": crop, "batch_size": batch}
            try:
                bench = Bench(size, config.precision, device)
            except RuntimeError as error:  # the fp32 truth itself does not fit
                missing = dict.fromkeys(names, str(error).splitlines()[0][:80])
                results["sizes"].append({**at, "implementations": {}, "missing": missing})
                continue
            for name in names:
                bench.add(name)
            found = bench.results(0.0) if bench.built else {"implementations": {}, "missing": bench.missing}
            results["sizes"].append({**at, **found})
            print(f"crop {crop}, batch {batch}: {', '.join(bench.facts) or 'nothing'} timed", flush=True)
    write_results(config.out, "scaling", results, as_markdown(results))
    if config.out:
        draw(Path(config.out, "scaling.png"), results)
    return 0


if __name__ == "__main__":
    run(main)
