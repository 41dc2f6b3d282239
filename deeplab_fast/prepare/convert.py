"""A file of weights to another format, or a MindSpore run to one that goes on here: ``prepare convert``."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import ChannelsConfig, ImageConfig, ModelConfig, TrainConfig, flag
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import network_of
from deeplab_fast.model.weights import (
    WeightFile,
    backbone_of,
    describe_match,
    describe_network,
    find_weights,
    is_backbone_alone,
    read_file_or_folder,
    save_as,
)
from deeplab_fast.model.weights.save import Kind
from deeplab_fast.model.weights.to_torchvision import BUILDERS, differences, reasons_not_to_load
from deeplab_fast.runtime import select_device
from deeplab_fast.storage.files import check_file
from deeplab_fast.training.from_mindspore import continue_here
from deeplab_fast.training.presets import resolve

logger = logging.getLogger("deeplab_fast")

PROGRAM = "deeplab_fast.prepare convert"
DESCRIPTION = (
    "Convert a file of weights: python -m deeplab_fast.prepare convert FILE --output=OUT, where FILE is any that"
    " training and evaluation read, or a name such as resnet50-imagenet. Or, with --to=checkpoint, convert what the"
    " MindSpore recipe's training saved to a run that the same flags to deeplab_fast.train continue: that takes all of"
    " training's flags, the other kinds those of the network and its images."
)
_KINDS: dict[str, Kind] = {
    ".pt": "weights",
    ".pth": "torchvision",
    ".safetensors": "safetensors",
    ".ckpt": "mindspore",
}


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(TrainConfig):
    """Convert"""

    to: Literal["auto", "weights", "torchvision", "safetensors", "mindspore", "checkpoint"] = flag(
        "auto",
        "weights: as best.pt, for eval, predict and export without flags; torchvision: a state dict with its names;"
        " safetensors: the same, the configuration in its metadata; mindspore: for the recipe's programs; checkpoint:"
        " last.pt in --train_dir, to train on. auto: by the suffix of --output, .pt, .pth, .safetensors or .ckpt.",
    )
    output: str = flag("", "File to write.")
    overwrite: bool = flag(False, "Replace --output where it exists.")


@dataclass(frozen=True, kw_only=True)
class _NetworkConfig(ImageConfig, ModelConfig, ChannelsConfig):
    """Network"""


_OWN = {field.name for field in dataclasses.fields(ConvertConfig)} - {f.name for f in dataclasses.fields(TrainConfig)}
_OF_NETWORKS = {field.name for field in dataclasses.fields(_NetworkConfig)}


def main(argv: list[str]) -> int:
    """Convert the file that the first argument names; return the exit status."""
    words: list[str] = []
    while argv and not argv[0].startswith("-"):
        words, argv = [*words, argv[0]], argv[1:]
    flags = parse_flags(ConvertConfig, argv, PROGRAM, DESCRIPTION)
    if len(words) != 1:
        raise UserError(f"prepare convert{''.join(f' {word}' for word in words)}: expected one FILE before the flags")
    config = ConvertConfig(**flags)
    if config.to == "checkpoint":
        return _to_checkpoint(words[0], config, {k: v for k, v in flags.items() if k not in _OWN})
    return _to_weights(words[0], config, flags)


def _to_checkpoint(text: str, config: ConvertConfig, flags: dict[str, Any]) -> int:
    if config.output:
        raise UserError(f"--output={config.output}: --to=checkpoint writes into --train_dir; leave it out")
    if config.overwrite:
        raise UserError("--overwrite=True: --to=checkpoint takes a free --train_dir, or --resume=False")
    on_gpu = select_device(config.device_target).type == "cuda"
    path, step, total = continue_here(resolve(flags, on_gpu), Path(text))
    but = ", but for --resume=False, which would start over" if config.resume == "False" else ""
    print(f"{path}: step {step} of {total}; the same flags to python -m deeplab_fast.train continue it{but}")
    print("not continued: the order of samples before this step, random numbers, the loss scale of fp16")
    return 0


def _to_weights(text: str, config: ConvertConfig, flags: dict[str, Any]) -> int:
    given = {name: value for name, value in flags.items() if name not in _OWN and name != "cache_dir"}
    for name in given:
        if name not in _OF_NETWORKS:
            raise UserError(f"--{name}: expected with --to=checkpoint alone")
    kind, output = _kind(config), Path(config.output)
    check_file(output, f"--output={output}")
    if output.exists() and not config.overwrite:
        raise UserError(f"--output={output}: is there already; --overwrite=True replaces it")
    source = find_weights(text, "FILE", config.cache_dir)
    file = read_file_or_folder(source, config.ckpt_channels)
    if output.exists() and output.samefile(file.path):
        raise UserError(f"--output={output}: is the source itself; expected another file")
    if is_backbone_alone(file):
        save_as(kind, *_backbone(file, kind), output)
    else:
        _save_network(file, kind, given, output)
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB, equal when read back")
    return 0


def _kind(config: ConvertConfig) -> Kind:
    """Return what to write, by ``--to`` or by the suffix of ``--output``, which readers tell safetensors by."""
    if not config.output:
        raise UserError("--output: missing; expected the file to write")
    suffix = Path(config.output).suffix
    if config.to == "auto" and suffix not in _KINDS:
        raise UserError(f"--output={config.output}: expected a name that ends in {', '.join(_KINDS)}, or --to")
    kind = _KINDS[suffix] if config.to == "auto" else cast(Kind, config.to)
    if (kind == "safetensors") != (suffix == ".safetensors"):
        raise UserError(f"--output={config.output}: files of safetensors, and no others, end in .safetensors")
    return kind


def _backbone(file: WeightFile, kind: Kind) -> tuple[dict[str, Any], dict[str, Any]]:
    if kind == "mindspore":
        raise UserError(f"{file.path}: holds a backbone alone; --to=mindspore takes a whole network")
    name, tensors = backbone_of(file)
    print(f"{file.path}: the backbone {name} of {file.family.name}")
    if "fc.weight" in tensors:
        print(f"with its classifier of {tensors['fc.weight'].shape[0]} classes, as torchvision names it")
    else:
        print("without a classifier (fc): torchvision's own model takes it with strict=False")
    return tensors, {"backbone": name}


def _save_network(file: WeightFile, kind: Kind, given: dict[str, Any], output: Path) -> None:
    config, model, names = network_of(_NetworkConfig, file, given)
    tensors = model.state_dict()
    logger.info("%s: %s", file.path, describe_match(tensors, file))
    origin = "this program" if file.is_ours else file.family.name
    print(f"{file.path}: {describe_network(config)}; the file is of {origin}")
    if kind == "torchvision":
        _say_of_torchvision(config)
    stored = {f.name: getattr(config, f.name) for c in (ModelConfig, ImageConfig) for f in dataclasses.fields(c)}
    save_as(kind, tensors, stored, output, names)


def _say_of_torchvision(config: ModelConfig) -> None:
    if reasons := reasons_not_to_load(config):
        print(f"torchvision's names, but no network of its own takes all of them: {'; '.join(reasons)}")
        return
    print(f"for {BUILDERS[config.backbone]}(num_classes={config.num_classes}, aux_loss=False)")
    if found := differences(config):
        print(f"its outputs are others: {'; '.join(found)}")
