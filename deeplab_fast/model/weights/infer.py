"""Tell from a file's tensors what network they are of, and what they cannot tell."""

import logging
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError

from ..deeplabv3 import CLASSIFIER, aspp_rates
from ..resnet import ARCHITECTURES, Architecture, Bottleneck
from .read import WeightFile

logger = logging.getLogger("deeplab_fast")


def infer_config(file: WeightFile) -> dict[str, Any]:
    """Return what the tensors themselves say of the configuration: ``backbone``, ``num_classes``, ``head``."""
    found: dict[str, Any] = {}
    for name, architecture in ARCHITECTURES.items():
        if (is_bottleneck(file.tensors), blocks_of(file.tensors)) == _as_counted(architecture):
            found["backbone"] = name
    classifier = file.tensors.get(f"{CLASSIFIER}.weight")
    if classifier is not None and not classifier.is_nested and classifier.dim() > 0:
        found["num_classes"] = classifier.shape[0]
        found["head"] = head_of(file)
    return found


def head_of(file: WeightFile) -> str:
    """Return the ``--head`` of a file that holds a classifier."""
    if "classifier.1.weight" not in file.tensors:
        return "recipe"
    return file.family.head or "torchvision"


def assumed_config(file: WeightFile, given: dict[str, Any]) -> dict[str, Any]:
    """Return what no tensor tells, as the file's origin has it, beside ``given``: flags and a stored configuration.

    Strides, rates and dilations have no weights, so a network of another stride loads the same file and gives other
    outputs. What is assumed is said in the log, with the flags to say otherwise.

    Raises:
        UserError: ASPP has another number of branches than any default.
    """
    branches = atrous_branches(file.tensors)
    if "aspp_rates" not in given and branches not in (0, len(aspp_rates(ModelConfig()))):
        raise UserError(f"{file.path}: its ASPP has {branches} atrous branches; give their rates with --aspp_rates")
    known = {name: given[name] for name in ("model", "head", "aspp_rates", "multi_grid") if name in given}
    assumed: dict[str, Any] = {}
    if "model" not in known and known.get("head", "recipe") != "recipe":
        assumed["model"] = file.family.model
    _say_what_is_assumed(file, ModelConfig(**known, **assumed), given)
    return assumed


def _say_what_is_assumed(file: WeightFile, config: ModelConfig, given: dict[str, Any]) -> None:
    values = {
        "model": f"output stride {config.output_stride}",
        "aspp_rates": f"ASPP rates {_listed(aspp_rates(config))}",
    }
    origin = f", as {file.family.name} has it"
    if config.head == "recipe":
        values["multi_grid"] = f"multi-grid {_listed(config.multi_grid)}"
        origin = ""
    unsaid = [flag for flag in values if flag not in given]
    if unsaid:
        what, flags = (", ".join(parts) for parts in ([values[f] for f in unsaid], [f"--{f}" for f in unsaid]))
        logger.info(
            "%s: stores no configuration; taken to have %s%s (otherwise give %s)", file.path, what, origin, flags
        )


def _listed(numbers: Iterable[int]) -> str:
    return "/".join(map(str, numbers))


def describe_network(config: ModelConfig) -> str:
    """Return the parts of a network on one line: depth, classes, head, stride and rates."""
    grid = f", multi-grid {_listed(config.multi_grid)}" if config.head == "recipe" else ""
    return (
        f"DeepLabV3 with {config.backbone}, {config.num_classes} classes, head {config.head}, output stride"
        f" {config.output_stride}, ASPP rates {_listed(aspp_rates(config))}{grid}"
    )


def blocks_of(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    """Return the number of residual blocks of each of the four stages."""
    stages = [f"backbone.layer{i}." for i in range(1, 5)]
    return tuple(len({key.split(".")[2] for key in tensors if key.startswith(stage)}) for stage in stages)


def is_bottleneck(tensors: dict[str, Tensor]) -> bool:
    return any(key.startswith("backbone.layer") and ".conv3." in key for key in tensors)


def _as_counted(architecture: Architecture) -> tuple[bool, tuple[int, ...]]:
    return architecture.block is Bottleneck, architecture.blocks


def describe_backbone(tensors: dict[str, Tensor]) -> str:
    """Return its name, or the blocks of its stages where it has none here."""
    counted = is_bottleneck(tensors), blocks_of(tensors)
    for name, architecture in ARCHITECTURES.items():
        if counted == _as_counted(architecture):
            return name
    return f"a ResNet of {', '.join(map(str, counted[1]))} {'bottleneck' if counted[0] else 'basic'} blocks"


def atrous_branches(tensors: dict[str, Tensor]) -> int:
    """Return how many rates ASPP has: its branches without the 1x1 convolution and the pooling; 0 without ASPP."""
    branches = {key.split(".")[3] for key in tensors if key.startswith("classifier.0.convs.")}
    return max(0, len(branches) - 2)
