"""The promises of docs/reliability.md, their tests, and a digest of each: ``python -m tests.promises`` notes them anew.

A test that holds a promise is not changed in passing: the note is changed with it, and whoever reads the change sees
that a promise may hold less.
"""

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
PAGE, NOTES = TESTS.parent / "docs/reliability.md", TESTS / "promises.json"


class Promise(NamedTuple):
    """A line of the page: the fault as tests are marked, or the promise in words; what tests it, or ``FILE::NAME``.

    ``cases``: how many of the fault are tried at least, by all tests that are marked with it.
    """

    fault: str
    what: str
    tests: list[str]
    cases: int


def promises(page: str) -> list[Promise]:
    """Read both tables of the page; in the second one ``what`` is empty, and ``cases`` 0."""
    found = []
    for line in page.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        tests = re.findall(r"`(tests/[^`]+)`", cells[-1]) if cells else []
        if tests:
            what, cases = cells[1:3] if len(cells) == 4 else ("", "0")
            found.append(Promise(cells[0], what, tests, int(cases.replace(",", ""))))
    return found


def functions_of(test: str) -> dict[str, ast.FunctionDef]:
    """Find what a promise names: test functions by ``FILE::NAME``, all below a folder or in a file, or one.

    Raises:
        LookupError: there is none.
    """
    name, _, wanted = test.partition("::")
    path = TESTS.parent / name
    files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path] if path.is_file() else []
    found = {
        f"{file.relative_to(TESTS.parent)}::{node.name}": node
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and wanted in ("", node.name)
    }
    if not found:
        raise LookupError(f"docs/reliability.md: {test} is no test")
    return found


def digests(page: str) -> dict[str, str]:
    """Return a digest of each test that holds a promise of the first table; its words and layout may change."""
    tests = {test for promise in promises(page) if promise.what for test in promise.tests}
    found = {name: node for test in tests for name, node in functions_of(test).items()}
    return {name: hashlib.sha256(_code_of(node).encode()).hexdigest()[:16] for name, node in sorted(found.items())}


def _code_of(test: ast.FunctionDef) -> str:
    """Write a test without its docstring."""
    body = test.body[1:] if ast.get_docstring(test) is not None else test.body
    return "\n".join(map(ast.dump, (*test.decorator_list, test.args, *body)))


if __name__ == "__main__":
    NOTES.write_text(json.dumps(digests(PAGE.read_text()), indent=1) + "\n")
