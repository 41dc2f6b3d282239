"""Write weights as a file of this program or of another; it has its name once what is read back is equal."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deeplab_fast.errors import UserError
from deeplab_fast.runtime import quiet, versions
from deeplab_fast.storage import torch_file
from deeplab_fast.storage.checkpoint import WEIGHTS_FORMAT, save_atomically
from deeplab_fast.storage.files import make_folder, replace_file

from .families import MINDSPORE
from .mindspore import write_mindspore
from .read import CONFIG_FACT, FORMAT_FACT, NAMES_FACT, read_weights
from .to_mindspore import as_mindspore

logger = logging.getLogger("deeplab_fast")

Kind = Literal["weights", "torchvision", "safetensors", "mindspore"]
_STORING = ("weights", "safetensors")  # kinds that hold a configuration
_BACKBONE = "backbone."


def save_as(
    kind: Kind, tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path, names: Sequence[str] = ()
) -> None:
    """Write ``tensors``, a network's or a backbone's with its image classifier (``fc``) if it has one, under our names.

    ``weights``: as ``best.pt``, with ``config`` (JSON values, tuples as lists) and the classes' ``names``.
    ``torchvision``: a bare state dict. ``safetensors``: the same tensors, ``config`` and ``names`` in the metadata.
    ``mindspore``: as the recipe's programs load it. A backbone alone has the names of torchvision's classifiers.

    Raises:
        UserError: the recipe has no such network, the file cannot be written, or what is read back differs.
    """
    plain = json.loads(json.dumps(dict(config)))
    content = _WRITERS[kind](tensors, plain, list(names))
    make_folder(path.parent, f"--output={path}")
    with replace_file(path) as partial:
        content(partial)
        _compare(kind, tensors, plain, list(names), partial, path)


def _compare(
    kind: Kind, tensors: Mapping[str, Tensor], config: dict[str, Any], names: list[str], partial: Path, path: Path
) -> None:
    with quiet(logger.name, logging.WARNING):  # of what is read back: it would name the temporary file
        written = read_weights(partial, MINDSPORE.channels if kind == "mindspore" else "rgb")
    for key, tensor in tensors.items():
        if kind == "mindspore" and key.endswith("num_batches_tracked"):
            continue
        if key not in written.tensors or not torch.equal(written.tensors[key], tensor):
            raise UserError(f"{path}: not written; {key} differs when it is read back")
    if kind in _STORING and not (written.is_ours and written.config == config and (written.names or []) == names):
        raise UserError(f"{path}: not written; the configuration differs when it is read back")


def _named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors under the names that the file has: those of a backbone alone without its prefix."""
    is_whole = any(key.startswith("classifier.") for key in tensors)
    named = tensors if is_whole else {key.removeprefix(_BACKBONE): tensor for key, tensor in tensors.items()}
    return {key: tensor.detach().contiguous() for key, tensor in named.items()}


_Writer = Callable[[Path], object]


def _weights(tensors: Mapping[str, Tensor], config: dict[str, Any], names: list[str]) -> _Writer:
    content = {"format": WEIGHTS_FORMAT, "model": _named(tensors), "config": config, "versions": versions()}
    if names:
        content["names"] = names
    return lambda path: save_atomically(content, path)


def _torchvision(tensors: Mapping[str, Tensor], config: dict[str, Any], names: list[str]) -> _Writer:
    named = _named(tensors)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            torch_file.save(named, file)

    return write


def _safetensors(tensors: Mapping[str, Tensor], config: dict[str, Any], names: list[str]) -> _Writer:
    from safetensors.torch import save

    facts = {"format": "pt", FORMAT_FACT: WEIGHTS_FORMAT, CONFIG_FACT: json.dumps(config)}
    if names:
        facts[NAMES_FACT] = json.dumps(names)
    content = save(_named(tensors), metadata=facts)
    return lambda path: path.write_bytes(_in_order(content))


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file whose metadata are sorted: the library's are in another order each time."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[8 + size :]))


def _mindspore(tensors: Mapping[str, Tensor], config: dict[str, Any], names: list[str]) -> _Writer:
    named = as_mindspore(dict(tensors))
    return lambda path: write_mindspore(path, named)


_WRITERS: dict[Kind, Callable[[Mapping[str, Tensor], dict[str, Any], list[str]], _Writer]] = {
    "weights": _weights,
    "torchvision": _torchvision,
    "safetensors": _safetensors,
    "mindspore": _mindspore,
}
