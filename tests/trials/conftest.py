"""A folder of small samples for each trial to break."""

from pathlib import Path

import pytest

from tests.trials.samples import write_samples


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A folder with its own copy of the samples, to break."""
    return write_samples(tmp_path / "data")
