"""Bar charts of results: medians with their quartiles, ours beside the others, the floor as a line."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_OURS, _OTHERS = "#1b6ca8", "#b0b7bf"


class Bar(NamedTuple):
    """A median and its quartiles."""

    median: float
    low: float
    high: float


def bar_chart(
    path: Path, title: str, unit: str, groups: Mapping[str, Mapping[str, Bar]], floors: Mapping[str, float]
) -> None:
    """Writes a PNG: each group's bars by name, the shortest first; ``floors``: a line for each group that has one."""
    figure, all_axes = plt.subplots(
        1, len(groups), figsize=(1.5 + 4.2 * len(groups), 1.4 + 0.45 * max(map(len, groups.values()))), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (group, bars) in zip(all_axes[0], groups.items(), strict=True):
        names = sorted(bars, key=lambda name: -bars[name].median)
        for place, name in enumerate(names):
            bar = bars[name]
            colour = _OURS if name.startswith("ours") else _OTHERS
            axes.barh(
                place, bar.median, color=colour, xerr=[[bar.median - bar.low], [bar.high - bar.median]], ecolor="black"
            )
            axes.text(bar.high, place, f"  {bar.median:.4g}", va="center", fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_xlim(0, 1.2 * max(bar.high for bar in bars.values()))
        if group in floors:
            axes.axvline(floors[group], color="black", linestyle=":", linewidth=1)
            axes.text(floors[group], len(names) - 0.45, "floor", fontsize=8, ha="center", va="bottom")
            axes.set_ylim(-0.6, len(names) - 0.15)
        axes.set_xlabel(unit, fontsize=9)
        axes.set_title(group, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(textwrap.fill(title, 55 * len(groups)), fontsize=10)  # or its ends would be cut off
    figure.savefig(path, dpi=120)
    plt.close(figure)
