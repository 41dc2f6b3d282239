"""The table and the page of a comparison: all that is drawn of its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_fast.storage.files import replace_file, write_json

from .config import IMPLEMENTATIONS, CompareConfig
from .summary import Spread, Summary, summarise

JSON, MARKDOWN, CHART = "compare.json", "compare.md", "compare.svg"
_NAMES = {"ours": "ours", "reference": "torchvision's reference"}
_ROWS = {  # figure: words, factor, digits
    "seconds": ("training time, s", 1, 1),
    "images_per_s": ("images/s", 1, 2),
    "cpu_seconds": ("CPU time, s", 1, 1),
    "peak_memory_mb": ("peak memory, MiB", 1, 0),
    "miou": ("mIoU, %", 100, 2),
    "pixel_accuracy": ("pixel accuracy, %", 100, 2),
    "images_seen": ("images seen", 1, 0),
}
_DRAWN = ("seconds", "peak_memory_mb", "miou")


def write_page(folder: Path, config: CompareConfig, runs: Sequence[dict[str, Any]], samples: tuple[int, int]) -> str:
    """Write the results as JSON, as a chart and as a page of Markdown; return the page.

    ``samples``: how many train, and how many are held out.

    Raises:
        UserError: a file cannot be written.
    """
    summary = summarise(runs)
    write_json(folder / JSON, as_record(config, runs, summary, samples))
    _draw(folder / CHART, runs, summary)
    page = as_markdown(config, runs, summary, samples)
    with replace_file(folder / MARKDOWN) as partial:
        partial.write_text(page, encoding="utf-8")
    return page


def as_record(
    config: CompareConfig, runs: Sequence[dict[str, Any]], summary: Summary, samples: tuple[int, int]
) -> dict[str, Any]:
    """Return what the JSON file holds: means and deviations over seeds by implementation, and every run."""
    sides = zip(IMPLEMENTATIONS, (summary.ours, summary.reference), strict=True)
    return {
        "summary": {name: {f: [s.mean, s.deviation] for f, s in side.items()} for name, side in sides},
        "ours_over_reference": summary.ratios,
        **{"miou_difference": summary.miou_difference, "miou_spread": summary.miou_spread},
        "verdict": summary.verdict,
        **{"training_images": samples[0], "held_out_images": samples[1], "seeds": config.seeds},
        "runs": list(runs),
    }


def as_markdown(
    config: CompareConfig, runs: Sequence[dict[str, Any]], summary: Summary, samples: tuple[int, int]
) -> str:
    """Return the page: the table of means, each run, and under which conditions they were made."""
    title = f"# DeepLabV3 {config.backbone}: ours beside torchvision's reference training"
    lines = [title, "", *_means(summary), "", summary.verdict, "", f"![time, memory and mIoU]({CHART})", ""]
    lines += [*_each(runs), "", *_conditions(config, runs, samples)]
    return "\n".join(lines) + "\n"


def _means(summary: Summary) -> list[str]:
    lines = ["| mean (± standard deviation over seeds) | ours | torchvision's reference | ours / reference |"]
    lines.append("|---|---|---|---|")
    for figure, (words, factor, digits) in _ROWS.items():
        sides = [_cell(side.get(figure), factor, digits) for side in (summary.ours, summary.reference)]
        ratio = f"{summary.ratios[figure]:.2f}" if figure in summary.ratios else ""
        lines.append(f"| {words} | {sides[0]} | {sides[1]} | {ratio} |")
    return lines


def _cell(spread: Spread | None, factor: float, digits: int) -> str:
    if spread is None:
        return "not defined"
    deviation = "" if spread.deviation is None else f" ± {factor * spread.deviation:,.{digits}f}"
    return f"{factor * spread.mean:,.{digits}f}{deviation}"


def _each(runs: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"| run | seed | steps | {' | '.join(words for words, _, _ in _ROWS.values())} |"]
    lines.append("|---" * (3 + len(_ROWS)) + "|")
    for run in runs:
        cells = [
            "not defined" if run[figure] is None else f"{factor * run[figure]:,.{digits}f}"
            for figure, (_, factor, digits) in _ROWS.items()
        ]
        lines.append(f"| {_NAMES[run['implementation']]} | {run['seed']} | {run['steps']} | {' | '.join(cells)} |")
    return lines


def _conditions(config: CompareConfig, runs: Sequence[dict[str, Any]], samples: tuple[int, int]) -> list[str]:
    """Return a list of what both had in common and what they did not."""
    where, training = runs[0]["environment"], runs[0]["training"]
    commits = sorted({_commit(run["environment"]) for run in runs})
    differ = max((run["networks_differ_by"] for run in runs if "networks_differ_by" in run), default=None)
    start = f"those of {Path(config.ckpt_pre_trained).name}" if config.ckpt_pre_trained else "random ones"
    head = "the whole network" if config.head == "torchvision" else "the backbone; ours has its own head"
    same = "the same images seen" if config.budget == "images" else "ours as long as the reference's epochs took"
    facts = [
        f"Data: {samples[0]} images, {samples[1]} held out; {config.num_classes} classes.",
        f"Budget: {config.epochs} epochs, {same}. Batch {config.batch_size}, crop {config.crop_size}, rate"
        f" {config.base_lr:g} falling as (1 - step / steps) ** 0.9, SGD with momentum 0.9 and weight decay 1e-4 (ours"
        " leaves BatchNorm's parameters out of the decay), " + training["precision"] + ".",
        f"Network: {config.model}, {config.backbone}. Weights at the start: {start}; of {head} the same in both."
        f" Auxiliary head of the reference: {'yes' if config.aux_loss else 'no'}.",
        "Crops: the reference resizes the shorter side; ours scales each image's size by"
        f" {training['min_scale']:.3f} to {training['max_scale']:.3f} ({training['interpolation']}), the same for an"
        " image of median size.",
        "Evaluation: both by the same code and the recipe's protocol, weights of the last step, fp32: the longest side"
        f" to {config.crop_size}, truth at its own size."
        + ("" if differ is None else f" The two networks' logits of the same weights differ by {differ:.0e} at most."),
        "Time: from the first batch asked for to the checkpoint of the last step; memory: of the training process (on a"
        f" GPU: of tensors), to which the reference's {config.num_workers} loading processes come.",
        f"Where: {where['device']}; {_versions(where)}; commit {', '.join(commits)}; {where['date']}.",
    ]
    return [f"- {fact}" for fact in facts]


def _commit(where: dict[str, Any]) -> str:
    return where["commit"] + (" with changes" if where.get("dirty") else "")


def _versions(where: dict[str, Any]) -> str:
    names = ("python", "torch", "torchvision", "deeplab_fast", "cuda", "cudnn", "driver")
    return ", ".join(f"{name} {where[name]}" for name in names if name in where)


def _draw(path: Path, runs: Sequence[dict[str, Any]], summary: Summary) -> None:
    """Draw bars of means with the deviation, and a dot for each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(_DRAWN), figsize=(9, 3), layout="constrained")
    for axis, name in zip(axes, _DRAWN, strict=True):
        words, factor, _ = _ROWS[name]
        axis.set_title(words)
        for x, (who, side) in enumerate(zip(IMPLEMENTATIONS, (summary.ours, summary.reference), strict=True)):
            values = [factor * r[name] for r in runs if r["implementation"] == who and r[name] is not None]
            if name in side:
                deviation = side[name].deviation
                error = None if deviation is None else factor * deviation
                axis.bar(x, factor * side[name].mean, 0.6, yerr=error, capsize=4, alpha=0.6)
            axis.plot([x] * len(values), values, ".k", markersize=5)
        axis.set_xticks(range(len(IMPLEMENTATIONS)), IMPLEMENTATIONS)
    try:
        with replace_file(path) as partial:
            figure.savefig(partial)
    finally:
        plt.close(figure)
