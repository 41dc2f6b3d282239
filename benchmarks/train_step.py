"""One training step, ours beside torchvision's of the same graph.

``python -m benchmarks.train_step`` prints a table and, with ``--out``, writes JSON and markdown;
``pytest benchmarks/train_step.py`` runs it under pytest-benchmark and holds us to not being slower.

Both networks are DeepLabV3 at output stride 16 with torchvision's head, start from the same weights,
see the same random images and labels, and use channels-last storage, the same autocast and the same
fused SGD. Loss and gradients are compared before anything is timed.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config import PRECISIONS, LossConfig, ModelConfig, OptimiserConfig, flag, validate
from deeplab_fast.errors import UserError
from deeplab_fast.loss import LossOptions, build_criterion
from deeplab_fast.model import build_model
from deeplab_fast.optim import build_optimiser
from deeplab_fast.runtime import autocast, place, select_device

from .measure import Timing, environment, interleave, write_results
from .peers import TorchvisionOS16

OURS, PEER = "ours", "torchvision-eager"
IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Step"""

    backbone: str = flag("resnet101", "ResNet depth.", choices=("resnet50", "resnet101"))
    batch_size: int = flag(2, "Images a step.", minimum=2)
    crop_size: int = flag(257, "Side of the images.", minimum=33)
    num_classes: int = flag(21, "Classes.", minimum=2, maximum=255)
    precision: str = flag("fp32,bf16", "Precisions, commas between.")
    device_target: str = flag("auto", "Device.", choices=("auto", "GPU", "CPU"))
    rounds: int = flag(15, "Timed steps of each implementation.", minimum=4)
    warmup: int = flag(2, "Steps before timing.", minimum=1)
    out: str = flag("", "Folder for train_step.json and train_step.md.")


@dataclass
class Case:
    """Both implementations with the same weights and data in one precision."""

    precision: str
    device: torch.device
    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    losses: dict[str, Callable[[Tensor], Tensor]]
    images: Tensor

    def forward_backward(self, name: str) -> Tensor:
        with autocast(self.precision, self.device):
            logits = self.networks[name](self.images)
        loss = self.losses[name](logits)
        loss.backward()
        return loss.detach()

    def step(self, name: str) -> Tensor:
        loss = self.forward_backward(name)
        self.optimisers[name].step()
        self.optimisers[name].zero_grad(set_to_none=True)
        return loss


def build_case(config: StepConfig, precision: str, device: torch.device) -> Case:
    torch.manual_seed(0)
    peer = TorchvisionOS16(config.backbone, config.num_classes)
    model_config = ModelConfig(
        backbone=config.backbone, num_classes=config.num_classes, head="torchvision", dropout=0.0
    )
    ours = build_model(model_config)
    ours.load_state_dict(peer.state_dict())
    for module in peer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # so that the losses can be compared
    networks: dict[str, nn.Module] = {OURS: place(ours, device).train(), PEER: place(peer, device).train()}
    shape = (config.batch_size, 3, config.crop_size, config.crop_size)
    images = torch.randn(shape).to(device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, config.num_classes, (shape[0], *shape[2:]), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < 0.05] = IGNORE
    labels = labels.to(device)
    long_labels = labels.long()  # the peer's loss wants int64: converted outside the timing, in its favour
    criterion = build_criterion(config.num_classes, LossOptions(IGNORE, False, device), LossConfig())
    return Case(
        precision,
        device,
        networks,
        {
            OURS: build_optimiser(networks[OURS], OptimiserConfig(base_lr=1e-4)),
            PEER: torch.optim.SGD(networks[PEER].parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True),
        },
        {
            OURS: lambda logits: criterion.share(logits, labels, criterion.normaliser(labels)),
            PEER: lambda logits: F.cross_entropy(logits.float(), long_labels, ignore_index=IGNORE),
        },
        images,
    )


def check_agreement(case: Case) -> dict[str, float]:
    """Relative errors of the first loss and of all gradients together, against the peer in fp32.

    Raises:
        UserError: fp32 differs by more than rounding, or our low precision is further from the truth
            than twice (gradients: three times) the peer's.
    """
    precise = replace(case, precision="fp32")
    truth = _loss_and_gradient(precise, PEER)
    found: dict[str, float] = {}
    for name in case.networks:
        loss, gradient = _loss_and_gradient(case, name)
        found[f"{name} loss"] = abs(loss - truth[0]) / abs(truth[0])
        found[f"{name} gradient"] = float((gradient - truth[1]).norm() / truth[1].norm())
    for what, factor, floor in (("loss", 2, 1e-5), ("gradient", 3, 1e-3)):
        limit = max(factor * found[f"{PEER} {what}"], floor)
        if not found[f"{OURS} {what}"] <= limit:
            raise UserError(
                f"{case.precision}: error of the {what} is {found[f'{OURS} {what}']:.1e}; expected at most {limit:.1e}"
            )
    return found


def _loss_and_gradient(case: Case, name: str) -> tuple[float, Tensor]:
    loss = case.forward_backward(name).item()
    named = sorted(case.networks[name].named_parameters())
    gradient = torch.cat([p.grad.flatten().double() for _, p in named if p.grad is not None])
    case.optimisers[name].zero_grad(set_to_none=True)
    return loss, gradient


def compare(config: StepConfig, precision: str, device: torch.device) -> tuple[dict[str, Timing], dict[str, float]]:
    """Timings of both implementations, interleaved, after agreement was checked."""
    case = build_case(config, precision, device)
    agreement = check_agreement(case)
    steps = {name: lambda name=name: case.step(name) for name in case.networks}
    return interleave(steps, config.rounds, config.warmup, device), agreement


def ratio(timings: dict[str, Timing]) -> Timing:
    """Ours over the peer's in each round; below 1 we are faster."""
    return timings[OURS].over(timings[PEER])


# ---------------------------------------------------------------- pytest-benchmark


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [OURS, PEER])
def test_step(benchmark: Any, name: str, precision: str) -> None:
    """Each implementation's step on its own, for pytest-benchmark's table and history."""
    config, cpu = StepConfig(), select_device("auto")
    case = build_case(config, precision, cpu)
    benchmark.group = f"{config.backbone} batch {config.batch_size} crop {config.crop_size} {precision}"
    benchmark.extra_info.update(environment(cpu))
    benchmark.pedantic(case.step, (name,), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_not_slower_than_torchvision(precision: str, record_property: Any) -> None:
    """Interleaved in one run: the median of ours is at most the peer's."""
    timings, _ = compare(StepConfig(), precision, select_device("auto"))
    found = ratio(timings).median
    record_property("ratio", found)
    print(f"\n{precision}: {found:.3f} of torchvision's eager step")
    assert found <= 1.0


# ---------------------------------------------------------------- command line


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    lines = [
        f"One training step, {config['backbone']} OS16, batch {config['batch_size']}, crop {config['crop_size']}:"
        f" {where['device']}, torch {where['torch']}, {where['date']}.",
        "",
        "| precision | implementation | median, ms | quartiles, ms | images/s | of torchvision's: median (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for precision, entry in results["precisions"].items():
        for name, t in entry["timings"].items():
            rate = 1e3 * config["batch_size"] / t["median_ms"]
            times = f"{t['median_ms']:.1f} | {t['q1_ms']:.1f} - {t['q3_ms']:.1f}"
            low, high = entry["ratio"]["quartiles"]
            share = f"{entry['ratio']['median']:.3f} ({low:.3f} - {high:.3f})" if name == OURS else "1"
            lines.append(f"| {precision} | {name} | {times} | {rate:.2f} | {share} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    config = StepConfig(**parse_flags(StepConfig, argv, "benchmarks.train_step", "Time one training step."))
    validate(config)
    device = select_device(config.device_target)
    results: dict[str, Any] = {"environment": environment(device), "config": asdict(config), "precisions": {}}
    for precision in config.precision.split(","):
        if precision not in PRECISIONS[:2]:
            raise UserError(f"--precision={precision}: expected fp32, bf16 or both with a comma between")
        timings, agreement = compare(replace(config, precision=precision), precision, device)
        results["precisions"][precision] = {
            "agreement": agreement,
            "timings": {name: t.in_ms() for name, t in timings.items()},
            "ratio": {"median": ratio(timings).median, "quartiles": ratio(timings).quartiles},
        }
    write_results(config.out, "train_step", results, as_markdown(results))
    return 0


if __name__ == "__main__":
    run(main)
