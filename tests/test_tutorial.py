"""docs/tutorial.md: its commands run as they are written, in their order, and its notebook is the same text."""

import importlib
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.faults.tiny import make_tiny

NOTEBOOK = ROOT / "examples/tutorial.ipynb"
SMALL = {"train": ["--train_epochs=2", "--eval_epochs=1", "--crop_size=65", "--num_workers=0", "--precision=fp32"]}
COMMAND = re.compile(r'!"\{sys\.executable\}" (.*)', re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with ``examples/``, which is the current one; ResNet-18 is tiny."""
    make_tiny(monkeypatch.setattr)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")
    return tmp_path


def run_command(words, monkeypatch):
    """Run what follows ``python``, in this process: a script, or a module of ours with smaller sizes."""
    if words[0] != "-m":
        fewer = ["14"] if words[0].endswith("make_shapes.py") else []
        monkeypatch.setattr(sys, "argv", [*words, *fewer])
        runpy.run_path(words[0], run_name="__main__")
        return
    program = words[1].removeprefix("deeplab_fast.")
    more = ["--device_target=CPU"] if program in ("train", "eval", "predict") else []
    assert importlib.import_module(words[1]).main([*words[2:], *more, *SMALL.get(program, [])]) == 0


def run_cell(source, names, monkeypatch):
    """Run a cell as a kernel would."""
    if match := COMMAND.fullmatch(source):
        run_command(shlex.split(match[1].replace("\\\n", " ")), monkeypatch)
    else:
        exec(compile(source, "cell", "exec"), names)


@pytest.mark.long
def test_the_cells_of_the_notebook_run(folder, monkeypatch, capsys):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {}
    for source in codes:
        run_cell(source, names, monkeypatch)
    said = capsys.readouterr().out
    assert len(re.findall(r"^mIoU 0", said, re.MULTILINE)) == 1
    assert re.search(r"^meadow: \d", said, re.MULTILINE)
    assert names["result"].names == ("meadow", "tree", "house")
    assert all(
        Path(made).is_file()
        for made in ("run/report/report.html", "page/report.html", "seen/000_overlay.jpg", "shapes.onnx", "classes.png")
    )


def test_the_notebook_is_the_tutorial():
    """Else: python docs/notebook.py."""
    assert NOTEBOOK.read_text(encoding="utf-8") == runpy.run_path(str(ROOT / "docs/notebook.py"))["notebook"]()
