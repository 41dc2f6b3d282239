"""README, CONTRIBUTING and docs/ say what was measured, and their commands, flags, links and paths are there."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.readme import WRITTEN, with_figures

ROOT = Path(__file__).parent.parent
NATIVE = [ROOT / "csrc/README.md", *sorted((ROOT / "deeplab_fast/ops").rglob("README.md"))]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Where a path that a document writes may begin, and the endings that make it one of the tree's wherever it begins.
BASES = (ROOT, ROOT / "deeplab_fast")
SOURCE = (".py", ".cpp", ".cu", ".h", ".sh", ".md", ".toml")
MADE = ("build/", ".venv/")  # what the Makefile makes

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_figures_are_what_the_results_say(name):
    """Else: python -m benchmarks.readme."""
    text = (ROOT / name).read_text()
    assert with_figures(name, text) == text


@pytest.mark.parametrize("document", [*DOCUMENTS, *NATIVE], ids=str)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        assert target.startswith("http") or (document.parent / target).exists(), target


@each_document
def test_commands_name_modules_that_exist(document):
    for module in re.findall(r"python -m ((?:deeplab_fast|benchmarks|tests)(?:\.[a-z_]+)+)", document.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@each_document
def test_commands_give_flags_that_exist(document):
    known = json.loads((ROOT / "tests/compatibility/files/interface.json").read_text())["flags"]
    for block in re.findall(r"^```\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        for program, rest in re.findall(r"-m deeplab_fast\.(prepare +\w+|\w+)([^\n#]*)", block.replace("\\\n", " ")):
            for flag in re.findall(r" --(\w+)", rest):
                assert flag in known[" ".join(program.split())], f"{program}: --{flag}"


def is_of_the_tree(word: str) -> bool:
    """Tell a path of the tree from a user's: it ends as sources do or begins with one of our folders."""
    first = word.split("/")[0]
    folders = "/" in word and any((base / first).is_dir() for base in BASES)
    return folders or ("/" in word and word.endswith(SOURCE))


@pytest.mark.parametrize("document", [*DOCUMENTS, *NATIVE], ids=str)
def test_paths_in_backticks_exist(document):
    """A path may begin at the root, in deeplab_fast/ or beside the document."""
    for word in re.findall(r"`(\.?\w[\w./-]*)(?:::\w+)?`", document.read_text()):
        if is_of_the_tree(word) and not word.startswith(MADE):
            assert any((base / word).exists() for base in (*BASES, document.parent)), word


def test_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
