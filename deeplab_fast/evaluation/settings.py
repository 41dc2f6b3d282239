"""The settings of an evaluation: what it needs beside the network, the samples and the protocol."""

from dataclasses import dataclass, field

import torch

from ..config import EvalConfig, TrainConfig
from ..distributed import World


@dataclass(frozen=True)
class Settings:
    """The labels, the device and how much at a time; what is counted, and by which processes.

    ``skip_bad``: a sample that cannot be used is left out, named, and listed in the scores; else it is an error.
    ``per_image``: the counts of each image are kept too. ``boundary``: so are those of the classes' boundaries.
    """

    num_classes: int
    ignore_label: int
    device: torch.device
    batch_size: int
    num_workers: int = 0
    world: World = field(default_factory=World)
    fused: str = "auto"
    skip_bad: bool = False
    per_image: bool = False
    boundary: bool = False

    @classmethod
    def of(
        cls,
        config: EvalConfig | TrainConfig,
        device: torch.device,
        world: World,
        *,
        fused: str | None = None,
        per_image: bool = False,
        boundary: bool = False,
    ) -> "Settings":
        """Take what the flags say; ``fused`` instead of theirs where it is given."""
        return cls(
            config.num_classes,
            config.ignore_label,
            device,
            config.batch_size,
            config.num_workers,
            world,
            config.fused if fused is None else fused,
            config.on_bad_sample == "skip",
            per_image,
            boundary,
        )
