"""Write the figures of README.md and docs/benchmarks.md from the committed results: ``python -m benchmarks.readme``.

docs/benchmarks.md gets, for each device under ``benchmarks/results``, the newest of each table whose checks of
agreement are kept beside it, could fail and passed; the others are named with the reason. What was not measured is not
there. README gets the newest chart of a step and one line a comparison. A test holds both to it.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .agreement import reason_against

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- performance: python -m benchmarks.readme -->", "<!-- end of performance -->"
# In this order; the file's own markdown is the table. Several of a kind have names such as evaluation-crop129.
TABLES = {
    "train_step": "Training step",
    "evaluation": "Evaluation",
    "predict": "Prediction",
    "loader_step": "Loader and step",
    "pipeline": "From bytes to a crop",
    "confusion": "Confusion matrix",
    "kernels": "Fused kernels",
}
# README's lines: the kind of result, what is compared, and where its file keeps the timings of ours and of the peer.
_STEP = "a step of {backbone}, batch {batch_size}, crop {crop_size}, "
HEADLINES = (
    ("train_step", _STEP + "fp32", ("precisions", "fp32", "implementations"), "ours", "torchvision-eager"),
    ("train_step", _STEP + "bf16", ("precisions", "bf16", "implementations"), "ours", "torchvision-eager"),
    ("evaluation", "evaluation, {backbone}, crop {crop_size}", ("timings",), "ours", "reference"),
    (
        "predict",
        "prediction of an image, file to file, {backbone}, crop {crop_size}, {precision}",
        ("timings",),
        "ours",
        "torchvision-eager",
    ),
    (
        "pipeline",
        "file to crop, one image, one core",
        ("timings", "uint8"),
        "ours, bicubic",
        "recipe (OpenCV, bicubic)",
    ),
    ("confusion", "confusion matrix of a label map, one core", ("timings", "uint8"), "ours", "numpy.bincount"),
)


@dataclass(frozen=True)
class Result:
    """A result file that could be shown; ``reason`` says why it is not, where it is not."""

    table: Path  # its markdown
    device: str
    date: str
    reason: str | None
    content: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Result":
        content: dict[str, Any] = json.loads(file.read_text())
        where = content["environment"]
        device = where["device"].split(",")[0]
        return cls(file.with_suffix(".md"), device, where["date"], reason_against(content), content)

    @property
    def stem(self) -> str:
        return self.table.stem

    @property
    def notes(self) -> Path:
        return self.table.with_name("NOTES.md")


def kind(stem: str) -> str:
    return stem.split("-")[0]


def all_results() -> list[Result]:
    """Return every result that has a table of a kind that is shown, oldest first."""
    files = (f for f in RESULTS.glob("*/*.json") if kind(f.stem) in TABLES and f.with_suffix(".md").exists())
    return sorted((Result.read(f) for f in files), key=lambda r: (r.date, str(r.table)))


def devices(results: list[Result]) -> list[str]:
    """List the devices, the one whose training step was measured last first."""
    newest = dict.fromkeys((r.device for r in results), "")
    newest |= {r.device: r.date for r in results if kind(r.stem) == "train_step"}  # they are sorted by date
    return sorted(newest, key=lambda device: newest[device], reverse=True)


def shown(results: list[Result], device: str) -> dict[str, Result]:
    """Return the newest of the device's results that may be shown, by stem."""
    return {r.stem: r for r in results if r.device == device and r.reason is None}


def not_shown(results: list[Result], device: str) -> list[str]:
    """Say for each folder which of the device's results may not be shown, why, and where its notes are."""
    lines = []
    refused = [r for r in results if r.device == device and r.reason is not None]
    for notes in dict.fromkeys(r.notes for r in refused):
        each = "; ".join(f"{TABLES[kind(r.stem)].lower()} of {r.date}: {r.reason}" for r in refused if r.notes == notes)
        lines.append(f"Not shown: {each}{_link(notes, ' (', ')')}.\n")
    return lines


def _link(notes: Path, before: str, after: str) -> str:
    return f"{before}[notes]({notes.relative_to(ROOT)}){after}" if notes.exists() else ""


def section() -> str:
    """Return the tables of docs/benchmarks.md, with links from the root."""
    results, lines = all_results(), []
    for device in devices(results):
        lines.append(f"### {device}\n")
        tables = shown(results, device)
        for of_kind, heading in TABLES.items():
            for stem in sorted(stem for stem in tables if kind(stem) == of_kind):
                lines.append(f"**{heading}.** {tables[stem].table.read_text().strip()}\n")
        for notes in dict.fromkeys(one.notes for one in tables.values() if one.notes.exists()):
            lines.append(f"What to know of these figures: {_link(notes, '', '')}.\n")
        lines += not_shown(results, device)
        lines += [f"{one}\n" for one in _chart(tables)]
    if not any("NVIDIA" in device for device in devices(results)):
        lines.append("No GPU has been measured yet.\n")
    return "\n".join(lines)


def _chart(tables: dict[str, Result]) -> list[str]:
    """Return the link to the chart of the step's result, where there is one."""
    chart = tables["train_step"].table.with_suffix(".png") if "train_step" in tables else Path()
    return [f"![Time of a step by implementation]({chart.relative_to(ROOT)})"] if chart.is_file() else []


def summary() -> str:
    """Return README's chart, of the first device, and its lines, one a comparison."""
    results = all_results()
    tables = {device: shown(results, device) for device in devices(results)}
    charts = [chart for of_device in tables.values() for chart in _chart(of_device)]
    lines = [*charts[:1], "", "| on | what | ours, ms | beside | theirs, ms | faster by |", "|---|---|---|---|---|---|"]
    for device, of_device in tables.items():
        for stem, words, path, ours, peer in HEADLINES:
            if stem not in of_device:
                continue
            content = timings = of_device[stem].content
            for key in path:
                timings = timings.get(key, {})
            if timings.keys() >= {ours, peer}:
                what = words.format(**content["config"])
                mine, its = (timings[name]["median_ms"] for name in (ours, peer))
                lines.append(f"| {device} | {what} | {_ms(mine)} | {peer} | {_ms(its)} | {its / mine:.3g} |")
    return "\n".join(lines) + "\n"


def _ms(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"


# Each file and what is written between its marks. docs/ is one folder down, which its links say.
WRITTEN = {"README.md": summary, "docs/benchmarks.md": lambda: re.sub(r"\]\((?!http)", "](../", section())}


def with_figures(name: str, text: str) -> str:
    """Return the text of the file ``name`` with its figures written anew."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{WRITTEN[name]()}\n{END}{tail}"


if __name__ == "__main__":
    for name in WRITTEN:
        path = ROOT / name
        path.write_text(with_figures(name, path.read_text()))
