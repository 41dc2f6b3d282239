"""Weights from files: torchvision's ResNet and DeepLabV3, safetensors, and our own checkpoints."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deeplab_fast import checkpoint
from deeplab_fast.errors import UserError

from ..deeplabv3 import CLASSIFIER
from ..resnet import ARCHITECTURES, Bottleneck

logger = logging.getLogger("deeplab_fast")

_WRAPPERS = ("model", "state_dict", "model_state", "network")
_PREFIXES = ("module.", "_orig_mod.")
_UNUSED = ("aux_classifier.", "backbone.fc.", "fc.")  # heads that this network does not have


@dataclass(frozen=True)
class WeightFile:
    """Tensors of a file under this model's key names, and the configuration stored with them, if any."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]


def read_weights(path: str | Path) -> WeightFile:
    """Read ``.safetensors``, or anything torch.save wrote: a state dict, bare or under 'model' or 'state_dict'.

    A ResNet classifier's keys (``conv1.weight``, ``layer1...``) become the backbone's.

    Raises:
        UserError: missing, damaged, or without any tensor.
    """
    path = Path(path)
    content: dict[str, Any]
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            content = dict(load_file(path))
        except (OSError, safetensors.SafetensorError) as error:
            reason = "no such file" if not path.exists() else str(error)
            raise UserError(f"{path}: not a safetensors file that can be read ({reason})") from None
    else:
        content = checkpoint.load(path)
    config = content.get("config") if isinstance(content.get("config"), dict) else {}
    inner = next((content[w] for w in _WRAPPERS if isinstance(content.get(w), dict)), content)
    if isinstance(content.get("average"), dict):  # a training checkpoint with averaged weights: take those
        inner = content["average"]
    tensors = {_plain(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no tensor under a name; expected a state dict")
    if "conv1.weight" in tensors and "backbone.conv1.weight" not in tensors:
        tensors = {k if k.startswith("fc.") else f"backbone.{k}": v for k, v in tensors.items()}
    return WeightFile(path, tensors, dict(config or {}))


def _plain(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def load_pretrained(model: nn.Module, path: str | Path, filter_weight: bool = False) -> list[str]:
    """Start ``model`` from a file and return the keys that were loaded; says in the log what was left out.

    A classifier for another number of classes is left as initialised, and so is the classifier when
    ``filter_weight`` is set.

    Raises:
        UserError: no key matches, or a tensor other than the classifier's has another shape.
    """
    file = read_weights(path)
    own = model.state_dict()
    chosen: dict[str, Tensor] = {}
    for key, tensor in file.tensors.items():
        if key not in own:
            continue
        is_classifier = key.startswith(CLASSIFIER + ".")
        if is_classifier and filter_weight:
            continue
        if tensor.shape != own[key].shape:
            if not is_classifier:
                raise UserError(
                    f"{path}: {key} is {_shape(tensor)}; this model's is {_shape(own[key])} (see --backbone)"
                )
            if key.endswith("weight"):
                logger.info(
                    "%s has %d classes, this model %d: the classifier starts anew",
                    path,
                    tensor.shape[0],
                    own[key].shape[0],
                )
            continue
        chosen[key] = tensor
    if not chosen:
        theirs, ours = next(iter(file.tensors)), next(iter(own))
        raise UserError(f"{path}: no key matches this model; it holds {theirs}, ..., expected {ours}, ...")
    model.load_state_dict(chosen, strict=False)
    unused = [k for k in file.tensors if k not in own and not k.startswith(_UNUSED)]
    missing = [k for k in own if k not in chosen and not k.endswith("num_batches_tracked")]
    logger.info("%s: %d tensors loaded; %s", path, len(chosen), _summary(missing, unused))
    return sorted(chosen)


def infer_config(file: WeightFile) -> dict[str, Any]:
    """What the tensors themselves say of the configuration: ``backbone``, ``num_classes``, ``head``."""
    found: dict[str, Any] = {}
    blocks = {key.split(".")[2] for key in file.tensors if key.startswith("backbone.layer3.")}
    bottleneck = "backbone.layer1.0.conv3.weight" in file.tensors
    for name, architecture in ARCHITECTURES.items():
        if len(blocks) == architecture.blocks[2] and bottleneck == (architecture.block is Bottleneck):
            found["backbone"] = name
    classifier = file.tensors.get(f"{CLASSIFIER}.weight")
    if classifier is not None:
        found["num_classes"] = classifier.shape[0]
        found["head"] = "torchvision" if "classifier.1.weight" in file.tensors else "recipe"
    return found


def load_exactly(model: nn.Module, file: WeightFile) -> None:
    """Fill every tensor of ``model`` from a file; only heads that it does not have may be left over.

    Raises:
        UserError: a key is missing, unexpected, or has another shape; names the flag to look at.
    """
    own = model.state_dict()
    if not any(key.startswith("classifier.") for key in file.tensors):
        raise UserError(
            f"{file.path}: holds a backbone alone; expected a whole network (training starts from it"
            " with --ckpt_pre_trained)"
        )
    for key, tensor in own.items():
        given = file.tensors.get(key)
        if given is None:
            if key.endswith("num_batches_tracked"):
                continue
            raise UserError(f"{file.path}: has no {key}; expected weights of this --model, --backbone and --head")
        if given.shape != tensor.shape:
            flag = "--num_classes" if key.startswith(CLASSIFIER) else "--backbone"
            raise UserError(f"{file.path}: {key} is {_shape(given)}; expected {_shape(tensor)} (see {flag})")
    extra = [k for k in file.tensors if k not in own and not k.startswith(_UNUSED)]
    if extra:
        raise UserError(f"{file.path}: unexpected {extra[0]}; expected weights of this --model, --backbone and --head")
    model.load_state_dict({k: v for k, v in file.tensors.items() if k in own}, strict=False)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _summary(missing: list[str], unused: list[str]) -> str:
    parts = []
    for words, keys in (("initialised anew", missing), ("not used", unused)):
        groups = sorted({".".join(k.split(".")[:2]) for k in keys})
        shown = ", ".join(groups[:4]) + (", ..." if len(groups) > 4 else "")
        parts.append(f"{words}: {shown or 'none'}")
    return "; ".join(parts)
