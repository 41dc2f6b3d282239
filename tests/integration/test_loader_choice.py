"""Training with the native loader and with the reference gives the same run."""

import json

import pytest

from deeplab_fast.ops import extension

pytestmark = pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}")

STEPS = 20
FLAGS = [
    *("--num_classes=6", "--backbone=resnet18", "--crop_size=65", "--batch_size=4", "--eval_epochs=0", "--dropout=0.1"),
    "--fused=off",  # or the extension's loss, which rounds otherwise, would be compared too
    *("--device_target=CPU", "--precision=fp32", "--base_lr=0.02"),
    *(f"--max_steps={STEPS}", f"--save_steps={STEPS}", "--photometric=True"),
]


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_the_same_losses(builtin, run_cli, tmp_path):
    data = [f"--data_root={builtin}", f"--data_lst={builtin}/train.txt"]
    native = run_cli("train", *data, *FLAGS, f"--train_dir={tmp_path}/native", DEEPLAB_FAST_NO_EXT="")
    reference = run_cli("train", *data, *FLAGS, f"--train_dir={tmp_path}/reference", DEEPLAB_FAST_NO_EXT="1")
    assert "2 native threads" in native.stdout + native.stderr
    assert "2 Python threads" in reference.stdout + reference.stderr
    found, expected = losses(tmp_path / "native"), losses(tmp_path / "reference")
    assert len(found) == STEPS
    assert found == expected
