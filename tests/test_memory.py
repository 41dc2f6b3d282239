"""What memory there is, and what a step takes of it."""

import pytest
import torch

from deeplab_fast.config import TrainConfig
from deeplab_fast.model import build_model
from deeplab_fast.model.layers import use_fused
from deeplab_fast.runtime import autocast, memory, usable_memory
from deeplab_fast.training.memory import StepMemory, step_memory
from tests.faults.tiny import make_tiny

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Pretend a machine of 8 GB with some free, and a container's limit."""
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 8 * GB // 1000}.get)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def make(available=None, limit=None):
        for name, text in (("_MEMINFO", available), ("_LIMIT", limit)):
            if text is not None:
                (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "_MEMINFO")
        monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "_LIMIT",))

    return make


@pytest.mark.parametrize(
    ("available", "limit", "usable"),
    [
        (None, None, 4 * GB),  # not Linux
        ("MemTotal: 8000000 kB\nMemAvailable:    2000000 kB\n", None, 1_024_000_000),
        ("MemTotal: 8000000 kB\nMemAvailable:    7900000 kB\n", "max\n", 4 * GB),
        ("MemTotal: 8000000 kB\nMemAvailable:    2000000 kB\n", f"{GB}\n", GB // 2),
        ("MemTotal: 8000000 kB\n", "", 4 * GB),
    ],
)
def test_half_of_what_there_is_may_be_used(available, limit, usable, machine):
    machine(available, limit)
    assert usable_memory(CPU) == usable


def test_the_processes_of_a_host_share_its_memory(machine, monkeypatch):
    machine()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert usable_memory(CPU) == GB


def test_nine_tenths_of_what_a_gpu_has_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GB, 80 * GB))
    assert usable_memory(torch.device("cuda", 0)) == 9 * GB


def really_saved(config, batch):
    """Bytes that a forward pass of a batch leaves to the backward pass, parameters included."""
    saved = {}
    model = build_model(config).train()
    use_fused(model, "off")
    images = torch.zeros(batch, 3, config.crop_size, config.crop_size)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        with autocast(config.precision, CPU):
            model(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


@pytest.mark.parametrize(
    "flags", [{}, {"precision": "bf16"}, {"model": "deeplab_v3_s8", "head": "torchvision"}], ids=str
)
def test_it_is_counted_as_it_is(flags, monkeypatch):
    make_tiny(monkeypatch.setattr)
    config = TrainConfig(backbone="resnet18", crop_size=65, num_classes=3, **({"precision": "fp32"} | flags))
    an_image = (really_saved(config, 4) - really_saved(config, 2)) / 2
    logits = 3 * 4 * 65**2
    assert step_memory(config).per_image == pytest.approx(1.25 * an_image + 2 * logits, rel=0.01)


def test_it_takes_more_for_larger_crops_and_an_average_and_draws_nothing(monkeypatch):
    make_tiny(monkeypatch.setattr)
    before = torch.get_rng_state()
    config = TrainConfig(backbone="resnet18", crop_size=65, precision="fp32")
    small, large = step_memory(config), step_memory(TrainConfig(**{**vars(config), "crop_size": 129}))
    averaged = step_memory(TrainConfig(**{**vars(config), "ema_decay": 0.9}))
    assert large.fixed == small.fixed < averaged.fixed
    assert 3 < large.per_image / small.per_image < 5
    assert torch.equal(before, torch.get_rng_state())


def test_images_within():
    step = StepMemory(fixed=100, per_image=10)
    assert [step.images_within(size) for size in (0, 100, 109, 110, 159)] == [0, 0, 0, 1, 5]
