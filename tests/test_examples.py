"""Each program of examples/ does what its head says, small."""

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.faults.tiny import make_tiny

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs an example in an empty folder; ResNet-18 is tiny."""
    make_tiny(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")

    return call


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_read_at_a_glance(example):
    assert len(example.read_text().splitlines()) < 60


def test_the_same_pictures_are_drawn_at_each_run(run):
    for folder in ("once", "again"):
        run("make_shapes.py", folder, "3")
    first, second = ({p.name: p.read_bytes() for p in Path(f).rglob("*.*")} for f in ("once", "again"))
    assert len(first) == 7  # classes.txt too
    assert first == second


def test_from_own_masks_to_a_folder_of_overlays(run, capsys):
    run("make_shapes.py", "mine", "14")
    small = ["--train_epochs=2", "--crop_size=33", "--batch_size=4", "--num_workers=0", "--precision=fp32"]
    with pytest.raises(SystemExit, match=r"^0$"):
        run("own_masks.py", "mine", *small, "--device_target=CPU")
    assert "mine/run/best.pt" in capsys.readouterr().out
    stored = json.loads(Path("mine/run/config.json").read_text())
    assert (stored["num_classes"], stored["crop_size"]) == (3, 33)
    run("segment_folder.py", "mine/run", "mine/images", "seen")
    assert len(list(Path("seen").glob("*.jpg"))) == 14
    rows = list(csv.DictReader(Path("seen/shares.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 14
    for row in rows:
        assert sum(float(row[name]) for name in ("meadow", "tree", "house")) == pytest.approx(1, abs=1e-3)


def test_own_masks_stops_at_data_that_would_break_training(run, capsys):
    run("make_shapes.py", "mine", "2")
    Path("mine/masks/000.png").write_bytes(b"")
    with pytest.raises(SystemExit, match=r"^2$"):
        run("own_masks.py", "mine")
    assert "would break training" in capsys.readouterr().err


def test_the_ops_fit_logits_to_labels(run, capsys):
    run("use_the_ops.py")
    assert "step 40: loss 0.129, mIoU 1.000" in capsys.readouterr().out
