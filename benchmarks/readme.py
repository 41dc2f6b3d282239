"""Writes README's performance section from the committed results.

``python -m benchmarks.readme`` takes, for each device under ``benchmarks/results``, the newest of each table whose
checks of agreement are kept beside it, could fail and passed; the others are named with the reason. What was not
measured is not there. A test holds README to it.
"""

import json
import sys
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
    "loader_step": "Loader and step",
    "pipeline": "From bytes to a crop",
    "confusion": "Confusion matrix",
    "kernels": "Fused kernels",
}


@dataclass(frozen=True)
class Result:
    """A result file that README could show; ``reason`` says why it does not, where it does not."""

    table: Path  # its markdown
    device: str
    date: str
    reason: str | None

    @classmethod
    def read(cls, file: Path) -> "Result":
        content: dict[str, Any] = json.loads(file.read_text())
        where = content["environment"]
        return cls(file.with_suffix(".md"), where["device"].split(",")[0], where["date"], reason_against(content))

    @property
    def stem(self) -> str:
        return self.table.stem

    @property
    def notes(self) -> Path:
        return self.table.with_name("NOTES.md")


def kind(stem: str) -> str:
    return stem.split("-")[0]


def all_results() -> list[Result]:
    """Return every result that has a table of a kind that README shows, oldest first."""
    files = (f for f in RESULTS.glob("*/*.json") if kind(f.stem) in TABLES and f.with_suffix(".md").exists())
    return sorted((Result.read(f) for f in files), key=lambda r: (r.date, str(r.table)))


def devices(results: list[Result]) -> list[str]:
    """List the devices, the one that was measured last first."""
    newest = {r.device: r.date for r in results}  # they are sorted by date
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
    """The markdown between the marks."""
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
        chart = tables["train_step"].table.with_suffix(".png") if "train_step" in tables else Path()
        if chart.is_file():
            lines.append(f"![Time of a step by implementation]({chart.relative_to(ROOT)})\n")
    if not any("NVIDIA" in device for device in devices(results)):
        lines.append("No GPU has been measured yet.\n")
    return "\n".join(lines)


def with_section(readme: str) -> str:
    """README with the section written anew."""
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{section()}\n{END}{tail}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_section(path.read_text()))
    sys.exit(0)
