"""A folder of small samples for each trial to break, and programs that are run on it."""

import importlib
import logging
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from deeplab_fast import cli, train
from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from deeplab_fast.training import fit
from tests.faults.tiny import make_tiny
from tests.trials.samples import CLASSES, small, write_samples


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A folder with its own copy of the samples, to break."""
    return write_samples(tmp_path / "data")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``--backbone=resnet18`` a network of few channels, in this process."""
    make_tiny(monkeypatch.setattr)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the program says, at the level that users see."""
    caplog.set_level(logging.INFO, logger="deeplab_fast")
    return caplog


@pytest.fixture
def without_pictures(request, monkeypatch):
    """Write no report, which takes longer than the run, but for tests that ask for ``pictures``."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(fit, "write_report", lambda folder, *_, **__: folder / "report")


@pytest.fixture
def pictures():
    """Let the run write its report."""


@pytest.fixture
def start(samples, tmp_path, caplog):
    """Train in ``tmp_path/run`` with validation: two steps an epoch; returns the log."""

    def one(*flags):
        data = [f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--val_data_lst={samples}/val.txt"]
        caplog.clear()
        with caplog.at_level(logging.INFO, "deeplab_fast"):
            train.main(small(f"--train_dir={tmp_path}/run", "--crop_size=33", *data, *flags))
        return caplog.text

    return one


@pytest.fixture
def folder(tmp_path):
    """The folder of that run."""
    return tmp_path / "run"


def save_network(path, seed):
    """A small network of three classes with random weights that give several classes."""
    torch.manual_seed(seed)
    model = build_model(ModelConfig(backbone="resnet18", num_classes=CLASSES))
    config = {"backbone": "resnet18", "num_classes": CLASSES, "crop_size": 33}
    torch.save({"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": config}, path)
    return path


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [save_network(folder / name, seed) for seed, name in enumerate(("one.pt", "two.pt"))]


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def error(self):
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture
def call(capsys, monkeypatch):
    """Run a program as its command line does, in this process."""

    def run(name, *flags):
        monkeypatch.setattr("sys.argv", [name, *flags])
        with pytest.raises(SystemExit) as ended:
            cli.run(importlib.import_module(f"deeplab_fast.{name}").main)
        return Ended(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def predict(call, networks, samples, tmp_path):
    """Segment the samples' images into ``out``."""

    def run(*flags, network=0, source=samples / "images"):
        return call(
            "predict", f"--ckpt_path={networks[network]}", f"--input={source}", f"--output={tmp_path / 'out'}", *flags
        )

    return run
