"""Whether ours or the library's convolution runs: the table first, then the model; torch.compile does not look in."""

import json
from unittest import mock

import pytest
import torch

from deeplab_fast.ops.conv import measurements
from deeplab_fast.ops.conv.measurements import (
    _constant,
    measured,
    measured_tile,
    predicted,
    reason_for_library,
    shape_class,
)
from deeplab_fast.ops.conv.parallel_convs import parallel_convs
from deeplab_fast.ops.conv.triton.schedule import PixelMap
from deeplab_fast.ops.triton.launch import record_launches
from deeplab_fast.ops.triton.tiles import (
    CONV,
    CONV_HOPPER,
    CONV_SHARING,
    FORWARD,
    INPUT_GRADIENT,
    candidates,
)

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")  # counts as an H200
LAYER = ("conv1x1_bn", 64, 256, (0,))


@pytest.fixture(autouse=True)
def fresh():
    measured.cache_clear()
    measurements._slower.cache_clear()
    measured_tile.cache_clear()
    yield
    measured.cache_clear()
    measurements._slower.cache_clear()
    measured_tile.cache_clear()


def test_the_decision_is_marked_as_torch_marks_it():
    def other():
        pass

    torch.compiler.assume_constant_result(other)
    assert vars(other).items() <= vars(_constant).items()
    assert vars(other)


def test_without_a_measurement_the_model_decides_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "MEASURED", tmp_path / "none.json")
    assert _constant(*LAYER, 129, 129, 32, CPU) is None
    reason = _constant("atrous_conv_bn_relu", 512, 512, (2,), 33, 33, 1, CPU)
    assert "not measured on this GPU; predicted" in reason


@pytest.mark.parametrize(("ours", "vendor"), [(1.0, 2.0), (2.0, 1.0)])
def test_a_measurement_decides(ours, vendor, tmp_path, monkeypatch):
    name = shape_class(*LAYER, PixelMap(1, 32 * 129 * 129, 1))
    table = {"NVIDIA H200": {"date": "a day", "shapes": {name: {"ours_ms": ours, "vendor_ms": vendor}}}}
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(table))
    monkeypatch.setattr(measurements, "MEASURED", path)
    reason = _constant(*LAYER, 129, 129, 32, CPU)
    assert reason is None if ours < vendor else "2.000 ms, the library 1.000 ms" in reason
    # Another batch of the same power of two is the same class; another GPU is not, of the same architecture or another.
    assert (_constant(*LAYER, 129, 129, 30, CPU) is None) == (ours < vendor)
    assert measured("NVIDIA H100 PCIe") == {}


def test_what_an_h200_measured_decides_there():
    """ASPP, the furthest rate of layer4 and bottlenecks' 1x1 convolutions are ours; near rates are the library's."""
    ours = [
        ("aspp", 2048, 256, (0, 6, 12, 18)),
        ("atrous_conv_bn_relu", 512, 512, (8,)),
        ("conv1x1_bn", 256, 1024, (0,)),
        ("conv1x1_bn", 1024, 256, (0,)),
    ]
    assert [_constant(*layer, 33, 33, 32, CPU) for layer in ours] == [None] * 4
    assert "the library 0.711 ms" in (_constant("atrous_conv_bn_relu", 512, 512, (2,), 33, 33, 32, CPU) or "")


def test_the_fastest_tile_is_kept_by_its_use(tmp_path, monkeypatch):
    map_, layer = PixelMap(33, 33, 32), ("atrous_conv_bn_relu", 512, 512, (4,))
    wide, sharing = CONV_HOPPER[-1][1], CONV_SHARING[0][1]
    kept = {FORWARD: wide.label, INPUT_GRADIENT: sharing.label, "another": "a tile that is no more"}
    path = tmp_path / "measured.json"
    path.write_text(json.dumps({"NVIDIA H200": {"shapes": {shape_class(*layer, map_): {"tiles": kept}}}}))
    monkeypatch.setattr(measurements, "MEASURED", path)
    found = {use: measured_tile(use, *layer[1:], map_, CPU) for use in kept}
    assert found == {FORWARD: wide, INPUT_GRADIENT: sharing, "another": None}
    assert measured_tile(FORWARD, 512, 256, (4,), map_, CPU) is None


def test_every_tile_has_a_label_of_its_own():
    for columns in (64, 128, 256, 2048):
        tiles = candidates(columns, 90)
        assert len({tile.label for tile in tiles}) == len(tiles) >= 2
        assert set(candidates(columns, 80)) <= {*tiles, *(tile for _, tile in CONV)}


def test_the_kept_tile_is_launched(monkeypatch):
    tiles = {FORWARD: CONV_SHARING[0][1], INPUT_GRADIENT: CONV_SHARING[1][1]}
    monkeypatch.setattr(measurements, "measured_tile", lambda use, *_: tiles[use])
    x = torch.zeros(2, 8, 5, 5, dtype=torch.float16, requires_grad=True)
    weight = torch.zeros(16, 8, 3, 3, requires_grad=True)
    with record_launches() as made:
        y, _ = parallel_convs(x, [weight], [2])
        torch.autograd.grad(y, x, y.detach())
    found = [(one.kernel.__name__, one.tile) for one in made if one.kernel.__name__ == "conv_kernel"]
    assert found == [("conv_kernel", tiles[FORWARD]), ("conv_kernel", tiles[INPUT_GRADIENT])]


def test_the_model_knows_what_skipping_and_a_full_machine_are_worth():
    map_ = PixelMap(33, 33, 32)
    near, far = (predicted(2048, 256, (rate,), map_, 90, 132) for rate in (1, 18))
    assert far[0] < 0.65 * near[0]
    assert far[1] == near[1]
    small = predicted(2048, 256, (18,), PixelMap(33, 33, 1), 90, 132)
    assert small[0] > far[0] / 32 * 4  # one image leaves most of the machine idle


def test_fp32_stays_with_the_library_on_a_gpu():
    """In the interpreter, where nothing is about speed, it does not."""
    x = torch.zeros(1, 8, 3, 3)
    assert reason_for_library("conv1x1_bn", x, 8, (0,)) is None
    on_gpu = mock.Mock(spec=torch.Tensor, device=torch.device("cuda"), dtype=torch.float32)
    assert "rounding to TF32" in reason_for_library("conv1x1_bn", on_gpu, 8, (0,))


def test_no_graph_break_under_compile():
    def step(x):
        n, c, h, w = x.shape
        return x + 1 if _constant("conv1x1_bn", c, 256, (0,), h, w, n, x.device) is None else x - 1

    x = torch.zeros(2, 64, 129, 129)
    assert torch.equal(torch.compile(step, fullgraph=True, backend="eager")(x), step(x))
