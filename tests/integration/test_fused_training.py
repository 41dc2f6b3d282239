"""Training with the kernels forced follows training with torch's own operations."""

import copy

import pytest
import torch

from deeplab_fast.model import resnet
from tests.ops.kernels import DEVICE, needs_kernels
from tests.test_trainer import make, steps

pytestmark = pytest.mark.gpu

SETTLE, STEPS = 100, 8


@needs_kernels
def test_steps_follow_the_reference(builtin, monkeypatch):
    """From weights that have trained for a while: fresh ones amplify any rounding a thousandfold in a few steps."""
    shallow = resnet.Architecture(resnet.BasicBlock, (1, 1, 1, 1))
    monkeypatch.setitem(resnet.ARCHITECTURES, "resnet18", shallow)
    flags = {"base_lr": 0.003, "max_steps": SETTLE + STEPS, "batch_size": 4, "crop_size": 17, "dropout": 0.0}
    state, batches = make(builtin, **flags, fused="off")
    settling = steps(state, batches, SETTLE)
    start = copy.deepcopy(state.state_dict())
    plain = torch.tensor(steps(state, batches, STEPS))

    state, batches = make(builtin, **flags, fused="on")
    state.load_state_dict(start, "start")
    for _ in range(SETTLE):
        next(batches)
    fused = torch.tensor(steps(state, batches, STEPS))
    assert (fused - plain).abs().max() <= 1e-3
    assert plain.mean() < 0.8 * torch.tensor(settling[:10]).mean()  # it learns: a wrong gradient would show


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU runs the kernels")
def test_on_without_kernels_is_a_clear_mistake(run_cli, tmp_path):
    done = run_cli("train", f"--train_dir={tmp_path}", "--fused=on", check=False, TRITON_INTERPRET="0")
    assert done.returncode == 2
    assert "--fused=on: " in done.stderr
    assert "needs a CUDA GPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.is_file()]  # nothing was begun
