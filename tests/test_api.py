"""The package's functions for who calls it from Python."""

import json
import os
import signal

import pytest

import deeplab_fast
from deeplab_fast import eval as evaluation
from deeplab_fast.errors import UserError
from deeplab_fast.storage.checkpoint import load
from deeplab_fast.training import fit as fit_module
from tests.faults.tiny import make_tiny
from tests.trials.samples import CLASSES, write_samples


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Flags of a run of seconds, as keywords."""
    make_tiny(monkeypatch.setattr)
    data = write_samples(tmp_path / "data")
    return {
        "data_root": str(data),
        "data_lst": str(data / "train.txt"),
        "val_data_lst": str(data / "val.txt"),
        "train_dir": str(tmp_path / "run"),
        "backbone": "resnet18",
        "num_classes": CLASSES,
        "crop_size": 65,
        "batch_size": 4,
        "num_workers": 1,
        "device_target": "CPU",
        "max_steps": 2,
    }


def test_fit_trains_and_says_what_it_came_to(options, tmp_path):
    outcome = deeplab_fast.fit(deeplab_fast.TrainConfig(**options))
    assert (outcome.folder, outcome.step, outcome.stopped_by) == (tmp_path / "run", 2, None)
    assert outcome.best == tmp_path / "run/best.pt"
    assert outcome.best.is_file()
    assert outcome.report.is_dir()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert outcome.miou == outcome.best_miou == next(line["miou"] for line in lines if "miou" in line)
    assert deeplab_fast.fit(deeplab_fast.TrainConfig(**options)).step == 2  # it is there, and complete


def test_fit_tells_that_it_was_stopped(options, monkeypatch):
    monkeypatch.setattr(fit_module, "_description", lambda run: os.kill(os.getpid(), signal.SIGTERM) or "")
    outcome = deeplab_fast.fit(deeplab_fast.TrainConfig(**{**options, "max_steps": 50}))
    assert (outcome.step, outcome.stopped_by, outcome.report) == (1, signal.SIGTERM, None)
    assert list(outcome.folder.glob("last.pt"))


def test_fit_refuses_what_the_command_line_refuses(options):
    with pytest.raises(UserError, match="crop_size"):
        deeplab_fast.fit(deeplab_fast.TrainConfig(**{**options, "crop_size": -3}))


def test_names_of_classes_travel_from_the_data_to_what_is_trained(options, tmp_path, caplog, capsys):
    """Files without names are those of before: the run above and ``tests/compatibility`` have such."""
    (tmp_path / "data/classes.txt").write_text("ground\nBäume\nmer\n", encoding="utf-8")
    outcome = deeplab_fast.fit(deeplab_fast.TrainConfig(**options))
    for path in (outcome.best, *outcome.folder.glob("deeplab_v3_s16-*.pt")):
        assert load(path)["names"] == ["ground", "Bäume", "mer"]
    assert deeplab_fast.Segmenter(outcome.folder, device_target="CPU").names == ("ground", "Bäume", "mer")
    flags = [
        f"--ckpt_path={outcome.best}",
        f"--data_root={tmp_path / 'data'}",
        "--num_workers=0",
        "--device_target=CPU",
    ]
    (tmp_path / "data/classes.txt").write_text("ground\ntree\nmer\n", encoding="utf-8")
    evaluation.main([*flags, f"--data_lst={tmp_path / 'data/val.txt'}"])
    assert "class 1 is 'tree' in the data and 'Bäume' in" in caplog.text
    assert "tree" in capsys.readouterr().out
    (tmp_path / "data/classes.txt").unlink()
    evaluation.main([*flags, f"--data_lst={tmp_path / 'data/val.txt'}"])
    assert "Bäume" in capsys.readouterr().out


def test_a_file_holds_no_names_where_the_data_gives_none(options):
    outcome = deeplab_fast.fit(deeplab_fast.TrainConfig(**options))
    assert all("names" not in load(path) for path in outcome.folder.glob("*.pt"))
