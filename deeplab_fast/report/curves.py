"""Curves of a training run, and of several over each other."""

from collections.abc import Sequence

from .chart import COLOURS, Chart, Point, Series, line_chart, running_mean
from .runs import RunRecord

_SPIKES = 1.35  # the loss's axis ends at so many times the largest mean: single steps may stand out


def run_charts(run: RunRecord) -> list[Chart]:
    """Lay out the curves that a run's logs hold: loss, scores, learning rate, time, waiting, memory."""
    losses, step_ms, data_ms = run.values("loss"), run.values("step_ms"), run.values("data_ms")
    window = window_of(losses)
    mean = running_mean(losses, window)
    each = Series("each step", losses, 0, "faint" if window > 1 else "line")
    charts = [
        line_chart(
            "Training loss",
            "Cross-entropy of each step, and its running mean: it should fall, then level off.",
            [each, *([Series(f"mean of {window} steps", mean)] if window > 1 else [])],
            top=loss_top(losses, [mean]),
        ),
        line_chart(
            "Held-out images",
            "Mean IoU and pixel accuracy of each evaluation: images that nothing was learnt from.",
            [
                Series("mIoU", run.values("miou"), 0, dots=True),
                Series("pixel accuracy", run.values("pixel_accuracy"), 2, dots=True),
            ],
            top=1,
        ),
        line_chart(
            "Learning rate", "The size of a step, as its schedule has it.", [Series("rate", run.values("lr"), 1)]
        ),
        line_chart(
            "Time of a step",
            "Mean of each block of steps, and what of it was spent waiting for data.",
            [Series("step", step_ms, 0), Series("waiting for data", data_ms, 1)],
            " ms",
        ),
        line_chart(
            "Waiting for data",
            "Share of the time in which the network had nothing to do; more workers or records lower it.",
            [Series("share", _in_percent(run.values("data_share")), 1)],
            "%",
            top=100,
        ),
        line_chart(
            "Memory",
            "The most that was held so far: the GPU's, or the process's on a CPU.",
            [Series("memory", run.values("max_memory_mb"), 2)],
            " MB",
        ),
    ]
    return [chart for chart in charts if chart is not None]


def compared_charts(runs: Sequence[RunRecord], names: Sequence[str]) -> list[Chart]:
    """Lay out the curves of several runs over each other, each run in a colour of its own."""
    losses = [run.values("loss") for run in runs]
    means = [running_mean(points, window_of(points)) for points in losses]

    def overlaid(points: Sequence[Sequence[Point]], dots: bool = False) -> list[Series]:
        return [Series(n, p, i % COLOURS, dots=dots) for i, (n, p) in enumerate(zip(names, points, strict=True))]

    mious, rates, speeds = ([run.values(name) for run in runs] for name in ("miou", "lr", "images_per_s"))
    note = "Running mean over a fiftieth of each run's steps."
    charts = [
        line_chart("Training loss", note, overlaid(means), top=loss_top([], means)),
        line_chart("Mean IoU", "Of each evaluation, on the held-out images.", overlaid(mious, dots=True), top=1),
        line_chart("Learning rate", "The size of a step.", overlaid(rates)),
        line_chart("Speed", "Images a second in each block of steps.", overlaid(speeds), " img/s"),
    ]
    return [chart for chart in charts if chart is not None]


def window_of(points: Sequence[Point]) -> int:
    """Return the length of a running mean: a fiftieth of the steps."""
    return max(1, len(points) // 50)


def loss_top(losses: Sequence[Point], means: Sequence[Sequence[Point]]) -> float | None:
    """Return where the axis of losses ends; None where there are none."""
    highest = max((y for mean in means for _, y in mean), default=None)
    if highest is None:
        return None
    return min(_SPIKES * highest, max((y for _, y in losses), default=highest))


def _in_percent(points: Sequence[Point]) -> list[Point]:
    return [(x, 100 * y) for x, y in points]
