"""Read a file of weights: any that torch.save wrote, ``.safetensors``, or MindSpore's ``.ckpt``."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deeplab_fast.errors import UserError, first_line, pass_on_memory
from deeplab_fast.storage import checkpoint
from deeplab_fast.storage.files import parse_json, reason

from .families import TORCHVISION, Family, family_of
from .match import group_names
from .mindspore import is_mindspore, read_mindspore
from .safe import SAFE_GLOBALS
from .tensors import refuse_sizes
from .wrappers import bare_name, beside_network, find_state, relabel

logger = logging.getLogger("deeplab_fast")

FIRST_CONV = "backbone.conv1.weight"
# What a safetensors file of ours says of itself, beside its tensors: a format of checkpoint files, a configuration, and
# the names of the classes where they have any.
FORMAT_FACT, CONFIG_FACT, NAMES_FACT = "deeplab_fast", "config", "names"


@dataclass(frozen=True)
class WeightFile:
    """Tensors of a file under this model's key names, and the configuration stored with them, if any."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    family: Family = TORCHVISION
    beside: frozenset[str] = frozenset()  # names that stand beside the network, where it is an attribute of another
    is_ours: bool = False  # written by this program
    names: Any = None  # of the classes, as the file has them
    described_in: Path | None = None  # the file that holds configuration and names, where it is another


def read_weights(path: str | Path, channels: str = "auto") -> WeightFile:
    """Read a state dict, bare or wrapped, with our names, torchvision's or another project's (:mod:`.families`).

    Nothing in the file is executed. A file may hold arguments and numbers beside the weights (:mod:`.safe`).
    ``channels``: the order in which the file's network takes an image's colours, ``rgb``, ``bgr`` or, as its family
    has it, ``auto``; the first convolution's weights are turned to RGB.

    Raises:
        UserError: missing, damaged, without any tensor, or with several networks in one state dict.
    """
    path = Path(path)
    return weights_in(_content(path), path, channels)


def weights_in(content: Mapping[str, Any], path: Path, channels: str = "auto") -> WeightFile:
    """Return the network in what a file holds, its tensors of any shapes; as :func:`read_weights`."""
    config = content.get("config")
    state = find_state(content, path)
    refuse_sizes(path, state)
    beside = frozenset(bare_name(key) for key in beside_network(state))
    state = relabel(state, bare_name, path)
    family = family_of(state)
    state = _without_training(state, family, path)
    return WeightFile(
        path,
        tensors=_in_rgb(relabel(state, family.rename, path), channels, family, path),
        config=dict(config) if isinstance(config, Mapping) else {},
        family=family,
        beside=beside,
        is_ours=str(content.get("format", "")).startswith("deeplab_fast."),
        names=content.get("names"),
    )


def _content(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".pdparams":
        raise UserError(
            f"{path}: a pickle of PaddlePaddle, which is not read; with Paddle itself, save"
            " {name: value.numpy()} of its paddle.load as .safetensors (safetensors.numpy.save_file)"
        )
    if is_mindspore(path):
        return dict(read_mindspore(path))
    return checkpoint.load(path, allow=SAFE_GLOBALS)


def _without_training(state: dict[str, Tensor], family: Family, path: Path) -> dict[str, Tensor]:
    """Leave out what an optimiser keeps; says so."""
    others = [key for key in state if key.startswith(family.training)] if family.training else []
    if others:
        logger.info("%s: of its training, left out: %s", path, group_names(others))
    return {key: tensor for key, tensor in state.items() if key not in others}


def takes_bgr(family: Family, channels: str) -> bool:
    """Tell whether a file's network takes BGR images, as ``channels`` says or, where that is auto, its family."""
    return (family.channels if channels == "auto" else channels) == "bgr"


def _in_rgb(tensors: dict[str, Tensor], channels: str, family: Family, path: Path) -> dict[str, Tensor]:
    """Turn round the input channels of the first convolution where the file's network takes BGR images; says so."""
    weight = tensors.get(FIRST_CONV)
    if not takes_bgr(family, channels) or weight is None or weight.dim() != 4:
        return tensors
    reason = f"{family.name} takes BGR images; --ckpt_channels=rgb: as they are" if channels == "auto" else "as asked"
    logger.info("%s: the first convolution's channels turned from BGR to RGB (%s)", path, reason)
    return tensors | {FIRST_CONV: weight.flip(1)}


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        try:
            tensors, facts = _tensors_and_facts(path)
        except (OSError, RuntimeError) as error:  # whatever the system says: the library calls much of it absent
            pass_on_memory(error)
            with path.open("rb") as file:
                file.read(1)
            tensors, facts = _tensors_and_facts(path)
    except Exception as error:  # what torch says of sizes beyond its integers is a TypeError, its stack behind it
        pass_on_memory(error)
        why = reason(error) if isinstance(error, OSError) else first_line(error)
        raise UserError(f"{path}: not a safetensors file that can be read ({why})") from None
    if FORMAT_FACT not in facts:
        return tensors
    try:
        config, names = parse_json(facts.get(CONFIG_FACT, "{}")), parse_json(facts.get(NAMES_FACT, "null"))
    except ValueError:
        raise UserError(f"{path}: damaged configuration: its metadata hold no JSON") from None
    return {"format": facts[FORMAT_FACT], "model": tensors, "config": config, "names": names}


def _tensors_and_facts(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    tensors = dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        return tensors, file.metadata() or {}
