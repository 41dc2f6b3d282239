"""torchvision's segmentation reference: its loop, optimiser and schedule, as its repository trains DeepLabV3."""

import math
import multiprocessing
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.sources import Source
from deeplab_fast.errors import TrainingDiverged
from deeplab_fast.runtime import autocast
from deeplab_fast.storage import torch_file
from deeplab_fast.storage.files import replace_file

from .cost import Meter, Training
from .network import ReferenceNetwork
from .reference_data import ReferenceSamples

_AUX_WEIGHT, _AUX_RATE = 0.5, 10


def train_reference(
    network: ReferenceNetwork, source: Source, config: TrainConfig, device: torch.device, checkpoint: Path
) -> Training:
    """Train ``network``, which holds the weights to start from, and write its checkpoint within the measured time.

    Of ``config`` the flags that both share are used: data, crop, batch, epochs, rate, precision, workers, seed.

    Raises:
        TrainingDiverged: the last loss is NaN or infinite.
    """
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    loader = _loader(ReferenceSamples(source, config), config)
    steps = config.train_epochs * len(loader)
    network.to(device).train()
    optimiser = _optimiser(network, config)
    scheduler = PolynomialLR(optimiser, total_iters=steps, power=0.9)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    meter, loss = Meter(device), math.nan
    with tqdm(total=steps, desc="reference", unit="step", disable=None) as bar:
        for images, labels in _epochs(loader, config.train_epochs):
            images, labels = images.to(device), labels.to(device)
            with autocast(config.precision, device):
                value = _criterion(network(images), labels, config.ignore_label)
            optimiser.zero_grad()
            scaler.scale(value).backward()
            scaler.step(optimiser)
            scaler.update()
            scheduler.step()
            loss = value.item()  # as its log does at each step
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
    content = {"model": network.state_dict(), "optimizer": optimiser.state_dict(), "lr": scheduler.state_dict()}
    with replace_file(checkpoint) as partial, partial.open("wb") as file:
        torch_file.save(content, file)
    cost = meter.read()
    if not math.isfinite(loss):
        raise TrainingDiverged(f"the reference's last loss, of step {steps}, is {loss}; a lower --base_lr may help")
    return Training({k: v.cpu() for k, v in network.without_aux().items()}, steps, loss, cost)


def _loader(samples: ReferenceSamples, config: TrainConfig) -> DataLoader[tuple[Tensor, Tensor]]:
    """Open the reference's loader: processes, a new order each epoch, what does not fill a batch left out."""
    forks = sys.platform == "linux" and config.num_workers > 0  # records that are open cannot be sent to a process
    return DataLoader(
        samples,
        config.batch_size,
        shuffle=True,
        num_workers=config.num_workers,
        drop_last=True,
        multiprocessing_context=multiprocessing.get_context("fork") if forks else None,
    )


def _epochs(loader: DataLoader[tuple[Tensor, Tensor]], epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(epochs):
        yield from loader


def _optimiser(network: ReferenceNetwork, config: TrainConfig) -> torch.optim.SGD:
    groups: list[dict[str, Any]] = [
        {"params": list(network.backbone.parameters())},
        {"params": list(network.classifier.parameters())},
    ]
    if network.aux_classifier is not None:
        groups.append({"params": list(network.aux_classifier.parameters()), "lr": _AUX_RATE * config.base_lr})
    return torch.optim.SGD(groups, config.base_lr, config.momentum, weight_decay=config.weight_decay)


def _criterion(found: dict[str, Tensor], labels: Tensor, ignore_label: int) -> Tensor:
    losses = {k: nn.functional.cross_entropy(v, labels, ignore_index=ignore_label) for k, v in found.items()}
    return losses["out"] + _AUX_WEIGHT * losses["aux"] if "aux" in losses else losses["out"]
