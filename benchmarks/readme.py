"""Writes README's performance section from the committed results.

``python -m benchmarks.readme`` takes, for each device under ``benchmarks/results``, the newest of each table; what was
not measured is not there. A test holds README to it.
"""

import json
import sys
from pathlib import Path

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


def kind(stem: str) -> str:
    return stem.split("-")[0]


def newest() -> dict[str, dict[str, Path]]:
    """By device (newest measurement first), each table's newest markdown."""
    dated: dict[str, dict[str, tuple[str, Path]]] = {}
    for file in sorted(RESULTS.glob("*/*.json")):
        table = file.with_suffix(".md")
        if kind(file.stem) not in TABLES or not table.exists():
            continue
        where = json.loads(file.read_text())["environment"]
        kept = dated.setdefault(where["device"].split(",")[0], {})
        if where["date"] >= kept.get(file.stem, ("",))[0]:
            kept[file.stem] = (where["date"], table)
    order = sorted(dated, key=lambda device: max(date for date, _ in dated[device].values()), reverse=True)
    return {device: {stem: path for stem, (_, path) in dated[device].items()} for device in order}


def section() -> str:
    """The markdown between the marks."""
    lines = []
    for device, tables in newest().items():
        lines.append(f"### {device}\n")
        for of_kind, heading in TABLES.items():
            for stem in sorted(stem for stem in tables if kind(stem) == of_kind):
                lines.append(f"**{heading}.** {tables[stem].read_text().strip()}\n")
        chart = tables.get("train_step", Path()).with_suffix(".png")
        if chart.is_file():
            lines.append(f"![Time of a step by implementation]({chart.relative_to(ROOT)})\n")
    if not any("NVIDIA" in device for device in newest()):
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
