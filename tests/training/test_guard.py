"""A bad step changes nothing of the state, and neither do those after it."""

import copy

import pytest
import torch

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.errors import TrainingDiverged
from deeplab_fast.model import build_model
from deeplab_fast.training.guard import is_finite
from deeplab_fast.training.loss_log import LossBlock
from deeplab_fast.training.optim import move_towards
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import train_step
from deeplab_fast.training.trainer import raise_diverged
from tests.faults.bad_step import KINDS, spoil
from tests.faults.same import assert_equal
from tests.faults.tiny import make_tiny

SIDE, BATCH = 33, 2
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch.setattr)


def make(**flags):
    config = TrainConfig(backbone="resnet18", num_classes=3, crop_size=SIDE, batch_size=BATCH, max_steps=9, **flags)
    torch.manual_seed(0)
    return build_state(config, build_model(config), CPU, World(), Schedule(18, BATCH, 1))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 3, (BATCH, SIDE, SIDE), generator=generator).to(torch.uint8)
    extents = torch.tensor([[0, SIDE, 0, SIDE]] * BATCH, dtype=torch.int32)
    return Batch(images, labels, extents, [f"{seed}"])


def do(state, block, steps):
    parts = state.config.accumulate_steps
    for i in steps:
        group = [batch(parts * i + part) for part in range(parts)]
        block.add(train_step(state, group), [key for one in group for key in one.keys])


OPTIONS = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "average": {"precision": "fp32", "ema_decay": 0.9},
    "clipped, accumulated": {"precision": "fp32", "clip_grad_norm": 1.0, "accumulate_steps": 2},
    "frozen statistics": {"precision": "fp32", "freeze_bn": True},
    "fp16": {"precision": "fp16"},
    "fp16, clipped": {"precision": "fp16", "clip_grad_norm": 1.0, "ema_decay": 0.9},
}


# Gradients may overflow fp16: the loss scale answers that.
BAD = [(name, kind) for name in OPTIONS for kind in KINDS if (kind, name[:4]) != ("gradient", "fp16")]


@pytest.mark.parametrize(("name", "kind"), BAD)
def test_the_state_stays_that_before_the_bad_step(name, kind, monkeypatch):
    options = OPTIONS[name]
    state = make(**options)
    block = LossBlock(state)
    do(state, block, range(3))
    before = copy.deepcopy(state.state_dict())
    bad_call = 1 if kind == "gradient" else state.config.accumulate_steps  # the first or last part of the step
    spoil(kind, bad_call, monkeypatch.setattr)
    do(state, block, range(3, 7))
    records, _ = block.fetch()
    assert [record["step"] for record in records] == [1, 2, 3]
    assert block.divergence.last_good == 3
    assert block.divergence.reason.startswith("step 4: loss is ")
    parts = state.config.accumulate_steps
    assert block.divergence.reason.endswith(f"; samples {', '.join(str(3 * parts + part) for part in range(parts))}")
    assert ("gradients" in block.divergence.reason) == (kind == "gradient")
    state.go_back(3, block.divergence.rng)
    assert_equal(state.state_dict(), before)
    assert state.is_finite()


def test_the_check_can_fail(monkeypatch):
    """Without the guard the same step spoils weights and statistics."""
    state = make(precision="fp32")
    state.optimiser.skip = None
    monkeypatch.setattr(state.guard, "restore", lambda: None)
    spoil("nan", 1, monkeypatch.setattr)
    train_step(state, [batch(0)])
    assert not state.is_finite()


def test_statistics_of_a_forward_pass_that_overflows_are_put_back():
    state = make(precision="fp32")
    names = [name for name, _ in state.model.named_buffers()]
    before = {name: value.clone() for name, value in state.model.named_buffers()}
    with torch.no_grad():
        state.model.backbone.conv1.weight.mul_(1e38)
    loss = train_step(state, [batch(0)])
    assert not loss.isfinite()
    assert len(names) > 20
    assert_equal(dict(state.model.named_buffers()), before)


def test_gradients_that_overflow_fp16_at_every_scale_end_the_run(monkeypatch):
    state = make(precision="fp16", loss_scale=1.5e-4)
    block = LossBlock(state)
    do(state, block, [0])
    assert block.fetch()[0]
    assert block.divergence is None
    weights = [parameter.clone() for parameter in state.model.parameters()]
    spoil("gradient", 1, monkeypatch.setattr)
    do(state, block, [1])
    assert [record["step"] for record in block.fetch()[0]] == [2]
    assert block.divergence.reason.startswith("step 2: gradients overflow fp16 at every loss scale")
    assert all(torch.equal(a, b) for a, b in zip(state.model.parameters(), weights, strict=True))


def test_the_other_processes_end_without_a_word():
    with pytest.raises(SystemExit) as ended:
        raise_diverged(World(1, 2), "step 3: loss is nan")
    assert ended.value.code == 1
    with pytest.raises(TrainingDiverged, match=r"^step 3: loss is nan\. A lower --base_lr"):
        raise_diverged(World(0, 2), "step 3: loss is nan")


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_moving_towards_targets_is_torch_s_lerp(decay):
    torch.manual_seed(0)
    shapes = [(7,), (), (4, 3, 3, 3), (1000,)]
    ours, targets = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    ours[2] = ours[2].to(memory_format=torch.channels_last)
    expected = [torch.lerp(a, b, 1 - decay) for a, b in zip(ours, targets, strict=True)]
    before = [a.clone() for a in ours]
    move_towards(ours, targets, 1 - decay, torch.ones(()))
    assert_equal(ours, before)
    move_towards(ours, targets, 1 - decay, torch.zeros(()))
    if decay == 0.5:  # torch then counts back from the target
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    else:
        assert_equal(ours, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_is_finite(value):
    tensors = [torch.zeros(3), torch.zeros(()), torch.zeros(2, 2, dtype=torch.bfloat16)]
    assert is_finite(tensors)
    assert is_finite([])
    for tensor in tensors:
        tensor.view(-1)[-1] = value
        assert not is_finite(tensors)
        tensor.zero_()
