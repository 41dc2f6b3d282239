"""Make the tutorial a notebook: ``python docs/notebook.py`` writes ``examples/tutorial.ipynb``.

A block of commands becomes a cell that runs them, a block of Python one that runs it; shown outputs are left out.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs/tutorial.md"
NOTEBOOK = ROOT / "examples/tutorial.ipynb"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
START = """\
import os
import sys

if os.path.exists("make_shapes.py"):  # from examples/ to the project's folder
    os.chdir("..")"""


def cell(kind: str, number: int, text: str) -> dict[str, object]:
    """Return a cell of kind ``markdown`` or ``code``."""
    runs = {"execution_count": None, "outputs": []} if kind == "code" else {}
    source = text.strip().splitlines(keepends=True)
    return {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source, **runs}


def as_code(language: str, text: str) -> str:
    """Return a block as a cell's code; a command runs with the notebook's own Python."""
    return re.sub(r"^python ", '!"{sys.executable}" ', text, flags=re.MULTILINE) if not language else text


def cells(text: str) -> list[dict[str, object]]:
    """Return the cells of a document: what stands between its blocks, and those that can be run."""
    # Links of docs/ lead there from examples/.
    parts = BLOCK.split(re.sub(r"\]\((?!http)([\w#./-]+)\)", r"](../docs/\1)", text))
    found = [("markdown", parts[0]), ("code", START)]
    for language, block, below in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        found += [("code", as_code(language, block))] if language != "text" else []
        found.append(("markdown", below))
    return [cell(kind, i, source) for i, (kind, source) in enumerate(pair for pair in found if pair[1].strip())]


def notebook() -> str:
    """Return the tutorial as the JSON of a notebook without outputs."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells(TUTORIAL.read_text(encoding="utf-8")), "metadata": {"kernelspec": kernel}}
    return json.dumps({**content, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8")
