"""The roofline's operations against torch's own counter, and the figures that are written in the notes."""

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import deeplab_fast.ops
from benchmarks.floor import FloorConfig, executed_share, op_works, ops_table
from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from deeplab_fast.ops.conv import atrous_conv
from deeplab_fast.ops.conv.triton.schedule import PixelMap
from deeplab_fast.training.roofline import (
    FORWARD,
    H200,
    INPUT_GRADIENT,
    LOSS,
    NORMALISE,
    WEIGHT_GRADIENT,
    convolutions,
    floor,
    step_parts,
)


@pytest.fixture(scope="module")
def recipe():
    return build_model(ModelConfig())


@pytest.mark.parametrize(
    "options",
    [
        {"model": "deeplab_v3_s16", "backbone": "resnet50"},
        {"model": "deeplab_v3_s8", "backbone": "resnet50", "head": "torchvision"},
        {"model": "deeplab_v3_s16", "backbone": "resnet18"},
    ],
    ids=lambda options: " ".join(options.values()),
)
def test_dense_operations_are_those_that_torch_counts(options, monkeypatch):
    """By the library's convolutions, on a map where no tap is dead as a whole."""
    monkeypatch.setattr(atrous_conv, "prefers_taps", lambda x, rate, dtype: False)
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = build_model(ModelConfig(**options))
        model(torch.empty(2, 3, 321, 321)).sum().backward()
    dense = sum(part.dense for part in step_parts(model, 2, 321))
    assert dense == counter.get_total_flops()


def test_taps_inside_the_map_are_counted(recipe):
    """A convolution of ones over ones gives at each pixel the number of its taps that read one."""
    for conv in convolutions(recipe, 1, 129):
        reads = torch.nn.functional.conv2d(
            torch.ones(1, 1, conv.side, conv.side),
            torch.ones(1, 1, conv.kernel, conv.kernel),
            stride=conv.stride,
            padding=conv.kernel // 2 * conv.rate,
            dilation=conv.rate,
        )
        assert reads.shape[-1] == conv.out
        assert conv.flops == pytest.approx(2 * conv.n * conv.k * conv.c * float(reads.sum())), conv.name


def test_bytes_of_a_block_by_hand(recipe):
    """layer1.1 at crop 33: a map of 9x9, batch 2, two bytes an activation."""
    narrow, wide = (2 * 2 * channels * 9 * 9 for channels in (64, 256))
    w = 64 * 256
    parts = {(p.layer, p.category): p.bytes for p in step_parts(recipe, 2, 33)}
    assert parts["layer1.1.conv3", FORWARD] == narrow + wide + 2 * w
    # The mask and the sums need the raw output that the 3x3 convolution left.
    assert parts["layer1.1.conv3", INPUT_GRADIENT] == wide + narrow + 2 * w + narrow
    assert parts["layer1.1.conv3", WEIGHT_GRADIENT] == wide + narrow + 4 * w
    # At a block's entry: the shortcut's gradient, the activation, the raw output, and that of the shortcut before.
    assert parts["layer1.1.conv1", INPUT_GRADIENT] == narrow + wide + 2 * w + 4 * wide
    assert parts["layer1.2.conv1", INPUT_GRADIENT] == narrow + wide + 2 * w + 3 * wide
    assert parts["layer1.1.conv3", NORMALISE] == (wide + wide + wide) + 3 * wide
    assert parts["layer1.1.conv1", NORMALISE] == 2 * narrow + 3 * narrow
    assert parts["loss", LOSS] == 2 * 33 * 33 + 2 * 4 * (2 * 21 * 3 * 3)


def test_the_floor_of_the_recipe_s_step(recipe):
    """Batch 32, crop 513: the figures that the notes quote."""
    parts = list(step_parts(recipe, 32, 513))
    assert sum(p.dense for p in parts) == pytest.approx(13.604e12, rel=1e-4)
    assert sum(p.flops for p in parts) == pytest.approx(11.982e12, rel=1e-4)
    assert sum(p.bytes for p in parts) == pytest.approx(87.04e9, rel=1e-3)
    assert sum(floor(parts, H200).values()) == pytest.approx(27.83e-3, rel=1e-3)


def test_executed_shares():
    assert executed_share(PixelMap(33, 33, 32), (0,), 256) == 1.0
    # Rate 0 shares of the four branches: 1 dense tap beside 27, of which 0.62, 0.62 and 0.58 are executed.
    assert executed_share(PixelMap(33, 33, 32), (0, 6, 12, 18), 256) == pytest.approx(0.613, abs=2e-3)
    assert executed_share(PixelMap(33, 33, 32), (40,), 256) == pytest.approx(1 / 9)


def test_the_note_s_table_is_what_is_computed(recipe):
    """``python -m benchmarks.run floor`` prints it."""
    config = FloorConfig()
    works = list(op_works(convolutions(recipe, config.batch_size, config.crop_size)))
    note = (Path(deeplab_fast.ops.__file__).parent / "conv/README.md").read_text()
    assert ops_table(works, H200) in note
