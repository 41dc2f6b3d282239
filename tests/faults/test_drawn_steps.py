"""Configurations drawn at random: a step computes what a plain one in double precision does."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import event, given
from hypothesis import strategies as st
from torch import nn

from deeplab_fast.config import TrainConfig, validate_train
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.training.optim import learning_rate
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import train_step
from tests.faults.drawn import FAULT, settings_of
from tests.faults.tiny import make_tiny

CPU, STEPS = torch.device("cpu"), 3


@pytest.fixture
def tiny(monkeypatch):
    make_tiny(monkeypatch.setattr)
    return monkeypatch


@st.composite
def step_configs(draw):
    """Flags of a step that fit each other, or do not."""
    classes = draw(st.sampled_from([2, 3, 5, 21, 256]))
    flags = {
        "model": draw(st.sampled_from(["deeplab_v3_s16", "deeplab_v3_s8"])),
        "head": draw(st.sampled_from(["recipe", "torchvision"])),
        "num_classes": classes,
        "ignore_label": draw(st.sampled_from([0, 1, classes - 1, 254, 255])),
        "batch_size": draw(st.integers(1, 3)),
        "accumulate_steps": draw(st.integers(1, 3)),
        "crop_size": draw(st.integers(17, 49)),
        "precision": draw(st.sampled_from(["fp32", "fp32", "bf16"])),
        "lr_type": draw(st.sampled_from(["cos", "poly", "exp"])),
        "warmup_steps": draw(st.sampled_from([0, 2, 100])),
        "base_lr": draw(st.sampled_from([1e-12, 1e-3, 0.01])),
        "momentum": draw(st.sampled_from([0.0, 0.9])),
        "weight_decay": draw(st.sampled_from([0.0, 1e-4, 0.1])),
        "decay_norm": draw(st.booleans()),
        "clip_grad_norm": draw(st.sampled_from([0.0, 1e-3, 1.0])),
        "freeze_bn": draw(st.booleans()),
        "ema_decay": draw(st.sampled_from([0.0, 0.9])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
    }
    if draw(st.booleans()):
        flags["class_weights"] = tuple(draw(st.sampled_from([0.0, 0.5, 2.0])) for _ in range(classes))
    labels = draw(st.sampled_from(["all classes", "one class", "some ignored", "all ignored"]))
    return flags, labels


def batches_of(config, labels, generator):
    """As many as a step takes, of noise; ``labels``: what they hold."""
    shape = (config.batch_size, config.crop_size, config.crop_size)
    found = []
    for _ in range(config.accumulate_steps):
        images = torch.randint(0, 256, (*shape, 3), generator=generator).to(torch.uint8)
        truth = torch.randint(0, config.num_classes, shape, generator=generator)
        if labels == "one class":
            truth.fill_(1)
        elif labels == "all ignored":
            truth.fill_(config.ignore_label)
        elif labels == "some ignored":
            truth[torch.rand(shape, generator=generator) < 0.5] = config.ignore_label
        extents = torch.tensor([[0, config.crop_size, 0, config.crop_size]] * config.batch_size, dtype=torch.int32)
        found.append(Batch(images, truth.to(torch.uint8), extents, ["drawn"] * config.batch_size))
    return found


class Plain:
    """The same training in torch's own words, with weights of a type; ``bf16``: the network under autocast."""

    def __init__(self, model, config, total_steps, dtype, bf16=False):
        self.model, self.config, self.total_steps, self.step = copy.deepcopy(model).to(dtype), config, total_steps, 0
        self.dtype, self.bf16 = dtype, bf16
        norms = {id(p) for m in self.model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters(False)}
        groups = [
            {"params": [p for p in self.model.parameters() if id(p) not in norms]},
            {
                "params": [p for p in self.model.parameters() if id(p) in norms],
                "weight_decay": config.weight_decay if config.decay_norm else 0.0,
            },
        ]
        self.optimiser = torch.optim.SGD(
            groups, lr=1.0, momentum=config.momentum, weight_decay=config.weight_decay, foreach=False
        )
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.weights = torch.tensor(config.class_weights, dtype=dtype) if config.class_weights else None

    def _loss(self, images, labels, reduction):
        mean, std = (
            torch.tensor(v, dtype=self.dtype).view(3, 1, 1) for v in (self.config.mean_rgb, self.config.std_rgb)
        )
        x = (images.permute(0, 3, 1, 2).to(self.dtype) - mean) / std
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            scores = self.model(x)
        logits = F.interpolate(
            scores.to(self.dtype), labels.shape[1:], mode="bilinear", align_corners=self.model.align_corners
        )
        return F.cross_entropy(
            logits, labels.long(), self.weights, ignore_index=self.config.ignore_label, reduction=reduction,
            label_smoothing=self.config.label_smoothing,
        )  # fmt: skip

    def do(self, batches):
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total_steps)
        truth = torch.cat([batch.labels.flatten() for batch in batches]).long()
        counted = truth[truth != self.config.ignore_label]
        weight = len(counted) if self.weights is None else self.weights[counted].sum().item()
        self.optimiser.zero_grad()
        loss = torch.zeros((), dtype=self.dtype)
        for batch in batches:
            share = self._loss(batch.images, batch.labels, "sum") / (weight or math.inf)
            share.backward()
            loss += share.detach()
        if self.config.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad_norm)
        self.optimiser.step()
        for mine, other in zip(self.average, self.model.parameters(), strict=True):
            mine.copy_(other.detach()) if self.step == 0 else mine.lerp_(other.detach(), 1 - self.config.ema_decay)
        self.step += 1
        return loss.item()


def farthest(a, b):
    """The largest distance of two lists of numbers, each in the size of the second."""
    return max(abs(x - y) / max(abs(y), 1e-6) for x, y in zip(a, b, strict=True))


def relative(a, b):
    """Distance of two lists of tensors in the length of the second."""
    a, b = (torch.cat([t.detach().double().flatten() for t in tensors]) for tensors in (a, b))
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


@FAULT
def test_a_step_is_a_plain_step(tiny, cases):
    """Losses, weights, average: fp32 to its rounding, bf16 to its own.

    BatchNorm over the few values of a small crop magnifies rounding a hundredfold: torch's own step in that precision
    tells by how much.
    """
    refused, magnified = [], []

    @settings_of(cases, quick=12, every=150)
    @given(step_configs())
    def try_one(given_):
        flags, labels = given_
        cases.tried += 1
        config = TrainConfig(backbone="resnet18", max_steps=100, dropout=0.0, **flags)
        generator = torch.Generator().manual_seed(1)
        groups = [batches_of(config, labels, generator) for _ in range(STEPS)]
        torch.manual_seed(0)
        try:
            validate_train(config)
            model = build_model(config)
            plain = Plain(model, config, 100, torch.float64)
            usual = Plain(model, config, 100, torch.float32, config.precision == "bf16")
            schedule = Schedule(200, config.batch_size, 1, accumulate=config.accumulate_steps)
            state = build_state(config, model, CPU, World(), schedule)
            state.network.train()
            plain.model.train()
            usual.model.train()
            found = [train_step(state, group).item() for group in groups]
        except UserError as error:
            event("refused")
            refused.append(str(error))
            return
        expected, rounded = ([one.do(group) for group in groups] for one in (plain, usual))
        event(config.precision)
        loss_error, weight_error = (1e-4, 1e-4) if config.precision == "fp32" else (0.05, 0.02)
        usual_error = farthest(rounded, expected), relative(usual.model.parameters(), plain.model.parameters())
        if 8 * usual_error[0] > loss_error or 8 * usual_error[1] > weight_error:
            magnified.append(flags["crop_size"])
            loss_error, weight_error = max(loss_error, 8 * usual_error[0]), max(weight_error, 8 * usual_error[1])
        assert found == pytest.approx(expected, rel=loss_error, abs=1e-5)
        assert relative(state.model.parameters(), plain.model.parameters()) < weight_error
        if config.ema_decay:
            assert relative(state.evaluation_model.parameters(), plain.average) < weight_error
        assert state.is_finite()

    try_one()
    assert all(line.startswith("--") for line in refused), refused
    assert len(magnified) <= cases.tried // 10, f"BatchNorm magnified rounding in {len(magnified)} of {cases.tried}"
