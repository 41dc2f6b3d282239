"""A folder of small samples for each trial to break."""

import logging
from pathlib import Path

import pytest

from tests.faults.tiny import make_tiny
from tests.trials.samples import write_samples


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
