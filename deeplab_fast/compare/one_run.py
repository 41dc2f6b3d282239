"""A single run of a comparison, in a process of its own: ``python -m deeplab_fast.compare.one_run JOB.json``."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeplab_fast.cli import run
from deeplab_fast.config import TrainConfig
from deeplab_fast.errors import TrainingDiverged
from deeplab_fast.model import DeepLabV3
from deeplab_fast.runtime import resolve_precision, select_device
from deeplab_fast.runtime.environment import environment
from deeplab_fast.storage import checkpoint
from deeplab_fast.storage.files import read_json, write_json
from deeplab_fast.training.sources import Sources

from .config import OURS, CompareConfig
from .cost import Training
from .network import ReferenceNetwork
from .ours import fitting_steps, train_ours
from .plan import training_of
from .reference import train_reference
from .scoring import disagreement, score

DIVERGED = 3  # exit status; an unexpected error's is 1


@dataclasses.dataclass(frozen=True)
class Job:
    """A run to be done: its configuration, who trains, with which seed, and where files are.

    ``initial``: the weights to start from. ``scratch``: a folder for what is of no use afterwards. ``result``: the file
    to write. ``seconds``: the training time that ours is given; 0: the epochs of the configuration. ``made_from``:
    what the result is of, which goes into it.
    """

    config: CompareConfig
    implementation: str
    seed: int
    initial: Path
    scratch: Path
    result: Path
    seconds: float
    made_from: dict[str, Any]

    def write(self, path: Path) -> None:
        """Write it as :meth:`read` takes it."""
        write_json(path, {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()})

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read what :meth:`write` wrote."""
        content = read_json(path)
        paths = {name: Path(content[name]) for name in ("initial", "scratch", "result")}
        return cls(**{**content, **paths, "config": CompareConfig(**content["config"])})


def measure(job: Job) -> dict[str, Any]:
    """Train as the job says, evaluate, and return what its result file holds.

    Raises:
        UserError: the data is of no use.
        TrainingDiverged: a loss is NaN or infinite.
    """
    device = select_device(job.config.device_target)
    sources = Sources.open(training_inputs(job.config))
    config = training_of(job.config, job.seed, job.scratch / "run", sources.train)
    config = dataclasses.replace(config, precision=resolve_precision(config.precision, device).name)
    initial = checkpoint.load(job.initial)
    facts: dict[str, Any] = {}
    if job.implementation == OURS:
        trained = _ours(job, config, device, initial)
    else:
        network = ReferenceNetwork(config.backbone, config.num_classes, config.output_stride, job.config.aux_loss)
        network.load_state_dict(initial)
        trained = train_reference(network, sources.train, config, device, job.scratch / "reference.pt")
        config = dataclasses.replace(config, head="torchvision")
        facts["networks_differ_by"] = disagreement(network, config)
    assert sources.held_out is not None
    scores = score(trained.weights, config, sources.held_out, device)
    shown = {name: getattr(config, name) for name in ("precision", "head", "min_scale", "max_scale", "interpolation")}
    return {
        **{"implementation": job.implementation, "seed": job.seed, "made_from": job.made_from},
        **figures(trained, config.batch_size),
        **scores.as_record(),
        **facts,
        "training": shown,
        "environment": environment(device, "torchvision"),
    }


def training_inputs(config: CompareConfig) -> TrainConfig:
    """Return a configuration that opens the comparison's data."""
    names = {f.name for f in dataclasses.fields(TrainConfig)} - {"ckpt_pre_trained"}
    return TrainConfig(**{k: v for k, v in dataclasses.asdict(config).items() if k in names})


def figures(trained: Training, batch_size: int) -> dict[str, Any]:
    """Return the figures of a training as a result file holds them."""
    cost, images = trained.cost, trained.steps * batch_size
    return {
        **{"steps": trained.steps, "images_seen": images, "loss": trained.loss},
        **{"seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds, "images_per_s": images / cost.seconds},
        "peak_memory_mb": cost.peak_memory / 2**20,
    }


def _ours(job: Job, config: TrainConfig, device: torch.device, initial: Mapping[str, Tensor]) -> Training:
    shared = {k: v for k, v in initial.items() if not k.startswith("aux_classifier.")}
    if config.head != "torchvision":
        shared = {k: v for k, v in shared.items() if k.startswith("backbone.")}

    def fill(model: DeepLabV3) -> None:
        model.load_state_dict({**model.state_dict(), **shared})

    if job.seconds:
        config = dataclasses.replace(config, max_steps=fitting_steps(config, job.seconds, device, fill))
    return train_ours(config, device, fill)


def main(argv: list[str]) -> int:
    """Do the job of the file that the argument names; return the exit status."""
    job = Job.read(Path(argv[0]))
    try:
        write_json(job.result, measure(job))
    except TrainingDiverged as error:
        print(f"error: {error}", file=sys.stderr)
        return DIVERGED
    return 0


if __name__ == "__main__":
    run(main)
