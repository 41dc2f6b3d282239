"""Every number of README.md's table has a test, and every test here a number."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
NUMBERS = {
    *(f"a{i}" for i in range(1, 15)),
    *(f"b{i}" for i in range(1, 18)),
    *(f"c{i}" for i in range(1, 6)),
    *(f"d{i}" for i in range(1, 6)),
    *(f"e{i}" for i in range(1, 11)),
}


def names():
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name


def test_every_number_has_a_test():
    numbers = {name.split("_")[1] for name in names()}
    assert sorted(numbers - NUMBERS) == []
    assert sorted(NUMBERS - numbers) == []


def test_the_readme_lists_every_number():
    text = (HERE / "README.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`test_" in line]
    listed = set()
    for row in rows:
        for part, first, last in re.findall(r"([A-E])(\d+)(?: - [A-E](\d+))?", row.split("|")[2]):
            listed |= {f"{part.lower()}{i}" for i in range(int(first), int(last or first) + 1)}
    assert listed == NUMBERS
