"""What an earlier version wrote is read, and a run that it began goes on to the same bits."""

import json
import platform
import shutil

import pytest

from deeplab_fast import eval as evaluation
from tests.compatibility.make_files import END, FILES, interface, outcome, train
from tests.faults.tiny import make_tiny


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the figures are of x86-64's arithmetic")
def test_a_run_of_an_earlier_version_goes_on_to_its_bits(tmp_path):
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    train(tmp_path, END)
    assert outcome(tmp_path) == json.loads((FILES / "outcome.json").read_text())


def test_weights_of_an_earlier_version_are_evaluated(tmp_path, monkeypatch):
    """Read ``best.pt``: its mIoU within what another machine's arithmetic may make of it."""
    make_tiny(monkeypatch.setattr)
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    flags = [f"--ckpt_path={tmp_path / 'run/best.pt'}", f"--data_file={tmp_path / 'val.tar'}", "--batch_size=2"]
    assert evaluation.main([*flags, "--device_target=CPU"]) == 0
    found = json.loads((tmp_path / "run/metrics-best-val.json").read_text())
    logged = [json.loads(line) for line in (FILES / "run/metrics.jsonl").read_text().splitlines()]
    assert found["miou"] == pytest.approx(max(record["miou"] for record in logged if "miou" in record), abs=0.02)


def test_flags_and_custom_ops_keep_their_names():
    assert interface() == json.loads((FILES / "interface.json").read_text())
