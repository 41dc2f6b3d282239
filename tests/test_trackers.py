"""Trackers: the same calls reach each, a resumed run goes on there, and none of them ends a run."""

import importlib
import logging
import sys
import threading

import numpy as np
import pytest

from deeplab_fast.config import TrainConfig
from deeplab_fast.errors import UserError
from deeplab_fast.storage.log import in_columns
from deeplab_fast.storage.trackers import TRACKERS, TrackedRun, Trackers, background, check_trackers, trackers
from deeplab_fast.training.fit import fit
from tests.faults.tiny import make_tiny
from tests.trials.samples import write_samples

PICTURE = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
FLAGS = {"base_lr": 0.01, "crop_size": 65, "class_weights": [1.0, 2.0], "ohem": False, "data_lst": "a b.txt"}


@pytest.fixture
def track(tmp_path, monkeypatch):
    """Open the trackers of a run of that many steps, as it would be on a machine without accounts and servers."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for module in (sys, threading):  # wandb sets both
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "WANDB_NAME"):
        monkeypatch.delenv(name, raising=False)
    return lambda *names, start=0: Trackers(names, TrackedRun(tmp_path, "0123abcd", start, FLAGS))


def test_tensorboard_has_values_picture_and_flags(track, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = track("tensorboard")
    for step in (1, 2):
        made.scalars({"train/loss": 1.0 / step, "val/miou": 0.25 * step}, step)
    made.image("val/samples", lambda: PICTURE, 2)
    made.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in found.Scalars("val/miou")] == [(1, 0.25), (2, 0.5)]
    (image,) = found.Images("val/samples")
    assert (image.step, image.height, image.width) == (2, 12, 20)
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(found.summary_metadata)


@pytest.mark.parametrize("start", [0, 1])
def test_mlflow_goes_on_with_the_run_that_is_resumed(track, tmp_path, start):
    client_of = importlib.import_module("mlflow").MlflowClient
    made = track("mlflow")
    made.scalars({"train/loss": 1.0, "train/lr": 0.5}, 1)
    made.image("val/samples", lambda: PICTURE, 1)
    made.close()
    again = track("mlflow", start=start)
    again.scalars({"train/loss": 0.75}, 2)
    again.close()
    client = client_of((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("deeplab_fast")
    (run,) = client.search_runs([experiment.experiment_id])
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")] == [
        (1, 1.0),
        (2, 0.75),
    ]
    assert run.data.params["class_weights"] == "[1.0, 2.0]"
    assert run.info.status == "FINISHED"
    assert list((tmp_path / "mlruns").rglob("*.png"))


def test_wandb_writes_its_files_into_the_folder(track, tmp_path, capfd):
    made = track("wandb")
    made.scalars({"train/loss": 1.0}, 1)
    made.image("val/samples", lambda: PICTURE, 1)
    made.close()
    importlib.import_module(
        "wandb"
    ).teardown()  # its own process writes what it was given: a program's end waits for it
    (written,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"train/loss" in written.read_bytes()
    assert list((tmp_path / "wandb").rglob("val/samples*.png"))
    assert capfd.readouterr().out == ""


class Failing:
    def __init__(self, run):
        self.calls = 0

    def scalars(self, values, step):
        self.calls += 1
        raise ConnectionError("no\nroute")

    image = close = scalars

    def abandon(self):
        self.abandoned = True


def test_one_that_fails_is_said_once_and_the_others_go_on(track, tmp_path, monkeypatch, caplog):
    failing = Failing(None)
    monkeypatch.setitem(trackers._KINDS, "wandb", lambda run: failing)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        made = track("wandb", "tensorboard")
        for step in (1, 2):
            made.scalars({"train/loss": 1.0}, step)
        made.close()
    assert caplog.messages == [f"{tmp_path}: nothing more goes to Weights & Biases (no route)"]
    assert (failing.calls, failing.abandoned) == (1, True)
    assert any(p.stat().st_size > 100 for p in tmp_path.glob("events.*"))


def test_one_that_does_not_open_is_left_out(track, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/taken")
    (tmp_path / "taken").write_text("a file")
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        track("mlflow").close()
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}: nothing more goes to MLflow (")
    assert "\n" not in message


class Silent(Failing):
    """A service that never answers, for longer than the test takes."""

    spoke = False

    def __init__(self, run):
        threading.Event().wait(300)
        Silent.spoke = True


def test_a_service_that_does_not_answer_is_not_waited_for(track, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(background, "CLOSE_S", 0.2)
    monkeypatch.setitem(trackers._KINDS, "mlflow", lambda run: background.Background(lambda: Silent(run)))
    made = track("mlflow")
    made.scalars({"train/loss": 1.0}, 1)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        made.close()
    assert not Silent.spoke
    words = "it did not take the last figures within 0.2 s"
    assert caplog.messages == [f"{tmp_path}: nothing more goes to MLflow ({words})"]


def test_no_picture_is_drawn_for_nobody(track):
    def draw():
        raise AssertionError

    track().image("val/samples", draw, 1)


def test_names_and_packages_are_checked(monkeypatch):
    check_trackers(TRACKERS)
    with pytest.raises(UserError, match=r"--track=neptune: expected some of tensorboard, wandb, mlflow"):
        check_trackers(["tensorboard", "neptune"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--track=wandb: needs the package wandb; pip install 'deeplab_fast\[wandb\]'"):
        check_trackers(["wandb"])


def test_classes_stand_in_columns():
    text = in_columns(["background", "cat", "dog"], [0.98765, None, 0.05], width=40)
    assert text == "  background  98.8  cat            -\n  dog          5.0"


def test_a_long_name_has_a_line_of_its_own():
    assert in_columns(["x" * 200, "y"], [1.0, 0.0], width=100).count("\n") == 1


def test_an_evaluation_shows_held_out_samples(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_samples(tmp_path / "data", count=8)
    make_tiny(monkeypatch.setattr)
    flags = {"backbone": "resnet18", "num_classes": 3, "crop_size": 33, "batch_size": 4, "max_steps": 2}
    data = {"data_root": str(tmp_path / "data"), "data_lst": str(tmp_path / "data/train.txt")}
    config = TrainConfig(
        train_dir=str(tmp_path / "run"), device_target="CPU", val_data_lst=data["data_lst"], **data, **flags
    )
    fit(config)
    found = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(one.step, one.width) for one in found.Images("val/samples")] == [(s, 3 * 192 + 2 * 4) for s in (1, 2)]
    assert [one.step for one in found.Scalars("val/miou")] == [1, 2]
    assert any(tag.startswith("val/iou/") for tag in found.Tags()["scalars"])
