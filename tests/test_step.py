"""The step: how ``--speed`` chooses, that nothing in it waits for the device, that it compiles without a break."""

import contextlib
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.dataset import Batch
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model, resnet
from deeplab_fast.ops.triton.launch import record_launches
from deeplab_fast.training import step as step_module
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import GraphedStep, choose_step, train_step, update
from tests.fake_gpu import DEVICE as FAKE
from tests.fake_gpu import fake_gpu
from tests.faults.tiny import make_tiny
from tests.ops.kernels import DEVICE, needs_kernels

pytestmark = pytest.mark.gpu

BATCH, SIDE = 3, 65
CPU, ALONE = torch.device("cpu"), World()
GIVEN = {"backbone": "resnet50", "num_classes": 5, "batch_size": BATCH, "crop_size": SIDE, "precision": "bf16"}


def state_of(device=CPU, model=None, world=ALONE, **options):
    config = TrainConfig(**GIVEN | options)
    torch.manual_seed(0)
    return build_state(config, model or build_model(config), device, world, Schedule(12, BATCH, 1))


def batch_on(device):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), generator=generator).to(torch.uint8)
    labels = torch.randint(0, 5, (BATCH, SIDE, SIDE), generator=generator).to(torch.uint8)
    extents = torch.tensor([[0, SIDE, 0, SIDE]] * BATCH, dtype=torch.int32)
    return Batch(images.to(device), labels.to(device), extents.to(device), ["a"] * BATCH)


# ---------------------------------------------------------------- nothing waits


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: a value that it reads, a size that depends on data, a copy between
    the two (``lift_fresh`` is a tensor made from the host's numbers).
    """

    BY_NAME = (
        *("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "equal", "is_nonzero"),
        *("bincount", "lift_fresh", "lift_fresh_copy"),
    )

    def __init__(self):
        super().__init__()
        self.found, self.seen = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen += 1
        name = function.overloadpacket.__name__
        devices = {t.device.type for t in (*args, result) if isinstance(t, torch.Tensor) and t.dim()}
        if name in self.BY_NAME or (name in ("_to_copy", "copy_") and len(devices) > 1):
            self.found.append(name)
        return result


def waits_of(**options):
    """Of the second step: the first may fill caches."""
    model = build_model(TrainConfig(**GIVEN | options))  # of real tensors
    with fake_gpu(), FakeTensorMode(allow_non_fake_inputs=True), record_launches() as launches:
        state = state_of(FAKE, model, **options)
        batch = batch_on(FAKE)
        update(state, [batch])
        state.step += 1
        launches.clear()
        with Waits() as waits:
            update(state, [batch])
    return waits, launches


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "resnet50"},
        {"ema_decay": 0.9, "clip_grad_norm": 1.0},
        {"class_weights": (1.0,) * 5},
        {"ohem": True, "ohem_min_kept": 50},
    ],
    ids=["plain", "average and clipping", "class weights", "hard examples"],
)
@pytest.mark.parametrize("fused", ["on", "off"])
def test_a_step_waits_for_nothing(options, fused):
    waits, launches = waits_of(fused=fused, **{"backbone": "resnet18"} | options)
    assert waits.seen > 1000
    assert waits.found == []
    assert bool(launches) == (fused == "on")


@pytest.mark.long
def test_activations_made_again_wait_for_nothing():
    waits, again = waits_of(fused="on", recompute_activations=True)
    assert waits.found == []
    once, twice = (
        sum(one.kernel.__name__ == "norm_relu_kernel" for one in made) for made in (waits_of(fused="on")[1], again)
    )
    assert twice == once + 32  # of each block the inputs of the 3x3 convolution and of the last 1x1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "the fused kernels do not run on a CPU"),
        ({"sync_bn": True, "fused": "on", "world": World(0, 2)}, "with --sync_bn every activation is kept"),
        ({"fused": "on"}, ""),
    ],
)
def test_where_activations_are_kept_all_the_same(options, reason, caplog):
    state_of(recompute_activations=True, **options)
    assert reason in caplog.text
    assert bool(reason) == ("--recompute_activations has no effect" in caplog.text)


def test_the_check_can_fail():
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        x = torch.ones(3)
        torch.tensor([1.0, 2.0])
        assert waits.found == ["lift_fresh"]
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        with pytest.raises(DynamicOutputShapeException):
            x.nonzero()


# ---------------------------------------------------------------- compiles without a break


@pytest.mark.long
@needs_kernels
@pytest.mark.parametrize("fused", ["on", "off"])
def test_network_and_loss_compile_without_a_break(fused, monkeypatch):
    """One block a stage, backward too. Launches are noted only: what kernels compute is tested elsewhere."""
    monkeypatch.setitem(resnet.ARCHITECTURES, "resnet50", resnet.Architecture(resnet.Bottleneck, (1, 1, 1, 1)))
    state = state_of(DEVICE, precision="fp32", fused=fused, dropout=0.0)
    batch, x = batch_on(DEVICE), torch.randn(BATCH, 3, SIDE, SIDE, device=DEVICE)

    def loss(x):
        return state.criterion.share(state.model(x), batch.labels, state.criterion.normaliser(batch.labels))

    with record_launches() as launches:
        torch.compile(loss, fullgraph=True, dynamic=False, backend="aot_eager")(x).backward()
    assert bool(launches) == (fused == "on")
    assert all(p.grad is not None for p in state.model.parameters())


# ---------------------------------------------------------------- which step runs


@pytest.mark.parametrize("speed", ["auto", "eager", "compile"])
def test_a_cpu_steps_eagerly_and_says_so(speed):
    step, plan = choose_step(state_of(speed=speed))
    assert not isinstance(step, GraphedStep)
    assert (
        plan
        == {
            "auto": "eager (a CUDA graph needs a GPU)",
            "eager": "eager",
            "compile": "the network compiled, eager",
        }[speed]
    )


@pytest.mark.parametrize("speed", ["graph", "compile+graph"])
def test_a_graph_that_cannot_be_had(speed):
    with pytest.raises(UserError, match=re.escape(f"--speed={speed}: a CUDA graph needs a GPU; expected auto")):
        choose_step(state_of(speed=speed))


@pytest.mark.parametrize(
    ("speed", "size", "plan"),
    [
        ("auto", 1, "the whole step a CUDA graph, after 3 others"),
        ("graph", 1, "the whole step a CUDA graph, after 3 others"),
        ("auto", 2, "eager (several processes: their exchange is recorded too where --speed=graph asks for it)"),
        ("graph", 2, "the whole step a CUDA graph, after 11 others"),
        ("compile+graph", 2, "the network compiled, the whole step a CUDA graph, after 11 others"),
        ("compile", 2, "the network compiled, eager"),
    ],
)
def test_the_plan_on_a_gpu(speed, size, plan):
    """Without one: only what is asked of the state."""
    state = SimpleNamespace(config=TrainConfig(speed=speed), device=torch.device("cuda"), world=World(0, size, 0))
    assert choose_step(state)[1] == plan


class Casts(TorchDispatchMode):
    """Counts casts of whole weights of convolutions."""

    def __init__(self, model):
        super().__init__()
        self.shapes = {m.weight.shape for m in model.modules() if isinstance(m, nn.Conv2d)}
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        is_cast = function is torch.ops.aten._to_copy.default and result.dtype == torch.bfloat16
        self.count += is_cast and args[0].dtype == torch.float32 and args[0].shape in self.shapes
        return result


@pytest.mark.long
@pytest.mark.parametrize("fused", ["on", "off"])
def test_weights_are_cast_by_the_pass_of_the_update(fused):
    model = build_model(TrainConfig(**GIVEN))
    with fake_gpu(), FakeTensorMode(allow_non_fake_inputs=True), record_launches():
        state, batch = state_of(FAKE, model, fused=fused), batch_on(FAKE)
        found = []
        for _ in range(3):
            with Casts(model) as casts:
                update(state, [batch])
            found.append(casts.count)
    assert found[0] > 50
    assert found[1:] == [0, 0]


def test_copies_of_weights_change_no_bit(tiny):
    with_copies, without = state_of(DEVICE, **tiny), state_of(DEVICE, **tiny)
    assert with_copies.copies is not None
    without.copies = None
    assert losses_of(lambda b: train_step(with_copies, b), 3) == losses_of(lambda b: train_step(without, b), 3)
    pairs = zip(with_copies.model.parameters(), without.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert state_of(precision="fp32").copies is None
    assert state_of(speed="compile").copies is None


def losses_of(step, count=6):
    """With a batch that changes from step to step."""
    torch.manual_seed(0)  # dropout
    found = []
    for i in range(count):
        batch = batch_on(DEVICE)
        batch.images.add_(i)
        found.append(step([batch]).item())
    return found


@pytest.fixture
def tiny(monkeypatch):
    """One block a stage; of few channels too where their bf16 is not multiplied by tensor cores."""
    if DEVICE.type == "cuda":
        monkeypatch.setitem(resnet.ARCHITECTURES, "resnet18", resnet.Architecture(resnet.BasicBlock, (1, 1, 1, 1)))
    else:
        make_tiny(monkeypatch.setattr)
    return {"backbone": "resnet18", "base_lr": 0.01, "ema_decay": 0.9, "fused": "auto", "max_steps": 10}


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CUDA graph needs a GPU")
def test_a_recorded_step_has_the_bits_of_the_ordinary_one(tiny):
    ordinary, recorded = state_of(DEVICE, **tiny), state_of(DEVICE, **tiny)
    expected = losses_of(lambda batches: train_step(ordinary, batches))
    step = GraphedStep(recorded, must=True)
    assert losses_of(step) == expected
    assert step.graph is not None
    assert all(torch.equal(a, b) for a, b in zip(ordinary.model.parameters(), recorded.model.parameters(), strict=True))


class Recorder:
    """Stands in for a CUDA graph: recording computes nothing, replaying computes what was recorded."""

    def __init__(self, monkeypatch, fails=None):
        self.recording, self.fails, self.replays = False, fails, 0
        self.recorded, self.loss = None, torch.zeros(())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(step_module, "update", self.update)
        monkeypatch.setattr(GraphedStep, "_beside", lambda step, batches: train_step(step.state, batches))

    @contextlib.contextmanager
    def graph(self, graph, capture_error_mode):
        self.recording = True
        try:
            yield
        finally:
            self.recording = False

    def update(self, state, batches):
        if not self.recording:
            return update(state, batches)
        if self.fails:  # as late as may be
            for parameter in state.model.parameters():
                parameter.grad = torch.full_like(parameter, float("nan"))
            raise RuntimeError(self.fails)
        self.recorded = state, batches
        return self.loss

    def replay(self):
        self.replays += 1
        self.loss.copy_(update(*self.recorded))


def test_replaying_reads_each_batch_and_each_rate(tiny, monkeypatch):
    """On any machine, with a stand-in for the graph."""
    ordinary, recorded = state_of(DEVICE, **tiny), state_of(DEVICE, **tiny)
    expected = losses_of(lambda batches: train_step(ordinary, batches))
    recorder = Recorder(monkeypatch)
    assert losses_of(GraphedStep(recorded, must=True)) == expected
    assert recorder.replays == 3
    assert recorded.step == ordinary.step == 6
    assert recorded.optimiser.rate == ordinary.optimiser.rate
    for a, b in zip(ordinary.evaluation_model.parameters(), recorded.evaluation_model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_that_cannot_be_recorded_goes_on_eagerly_and_says_so(tiny, monkeypatch, caplog):
    ordinary, recorded = state_of(DEVICE, **tiny), state_of(DEVICE, **tiny)
    expected = losses_of(lambda batches: train_step(ordinary, batches))
    Recorder(monkeypatch, fails="operation not permitted when stream is capturing\nmore")
    assert losses_of(GraphedStep(recorded, must=False)) == expected
    assert caplog.text.count("could not be recorded: operation not permitted when stream is capturing") == 1


def test_a_step_that_must_be_recorded_and_cannot(tiny, monkeypatch):
    Recorder(monkeypatch, fails="no")
    with pytest.raises(UserError, match="--speed=auto: the step cannot be recorded: no"):
        losses_of(GraphedStep(state_of(DEVICE, **tiny), must=True))
