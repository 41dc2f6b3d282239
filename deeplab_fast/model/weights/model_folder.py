"""A network as a folder of the form that the Hugging Face Hub has: weights, their description and a model card.

``config.json`` holds the configuration, the classes' names and the SHA-256 of the files beside it.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from deeplab_fast.errors import UserError
from deeplab_fast.runtime import versions
from deeplab_fast.storage.checkpoint import BEST
from deeplab_fast.storage.files import (
    check_file,
    check_folder,
    make_folder,
    parse_json,
    reason,
    replace_file,
    write_json,
)
from deeplab_fast.storage.locks import lock_folder

from .read import WeightFile, read_weights
from .save import save_as

logger = logging.getLogger("deeplab_fast")

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, DESCRIPTION, CARD)
_FORMAT, _VERSION = "deeplab_fast.pretrained/", "1"
_MOST_BYTES = 1 << 20  # of config.json: 256 classes take a hundredth


def read_file_or_folder(path: Path, channels: str = "auto") -> WeightFile:
    """Read a file of weights, or those that a folder stands for: a run's ``best.pt``, else ``model.safetensors``.

    Raises:
        UserError: as :func:`.read_weights` or :func:`read_folder`.
    """
    if not path.is_dir():
        return read_weights(path, channels)
    of_hub = not (path / BEST).exists() and ((path / WEIGHTS).exists() or read_description(path) is not None)
    return read_folder(path, channels) if of_hub else read_weights(path / BEST, channels)


def read_folder(folder: Path, channels: str = "auto") -> WeightFile:
    """Read the weights of a folder, with configuration and names from its ``config.json`` where that is ours.

    Another project's ``config.json`` is passed over: its ``model.safetensors`` is read as any other file
    (:func:`.read_weights`, also of ``channels``).

    Raises:
        UserError: a file is missing or damaged, or the weights are not those that ``config.json`` describes.
    """
    path, said = folder / WEIGHTS, read_description(folder)
    if said is None:
        return read_weights(path, channels)
    where = folder / DESCRIPTION
    if not isinstance(said.get("config"), dict) or not isinstance(said.get("sha256"), dict):
        raise UserError(f"{where}: the folder was not written to its end; save the network into it again")
    expected = said["sha256"].get(WEIGHTS)
    if _sha256(path) != expected:
        raise UserError(f"{path}: damaged, or not the weights that {DESCRIPTION} describes (its SHA-256 is another)")
    file = read_weights(path, channels)
    return replace(file, config=said["config"], names=said.get("names"), is_ours=True, described_in=where)


def read_description(folder: Path) -> dict[str, Any] | None:
    """Return what a ``config.json`` of ours holds; None where there is none, or another program's.

    Raises:
        UserError: it cannot be read, is no JSON, or is of a later version.
    """
    path = folder / DESCRIPTION
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        content = parse_json(data) if len(data) <= _MOST_BYTES else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    except ValueError:
        raise UserError(f"{path}: damaged: it holds no JSON") from None
    form = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(form, str) or not form.startswith(_FORMAT):
        return None
    if form != _FORMAT + _VERSION:
        raise UserError(f"{path}: of the format {form}; expected {_FORMAT}{_VERSION}")
    return content


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], names: Sequence[str], card: str
) -> None:
    """Write a network and its model card into ``folder``, whose weights are equal to ``tensors`` when read back.

    ``config`` holds JSON values, tuples as lists; ``names`` are the classes'. An earlier network in such a folder is
    replaced, and its card if nobody edited it since; any other card stays.

    Raises:
        UserError: files of another kind are in the way, or nothing can be written.
    """
    check_folder(folder, str(folder))
    make_folder(folder, str(folder))
    with lock_folder(folder):  # another save waits: the files of two would be no network
        _write(folder, tensors, config, names, card)


def _write(
    folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], names: Sequence[str], card: str
) -> None:
    for name in FILES:
        check_file(folder / name, str(folder / name))
    before = read_description(folder)
    refuse_other_files([name for name in FILES if (folder / name).exists()], before, str(folder))
    takes_card = _takes_card(folder / CARD, before, card)
    if before is None:  # a folder that is not written to its end can be told by this
        write_json(folder / DESCRIPTION, {"format": _FORMAT + _VERSION})
    save_as("safetensors", tensors, config, folder / WEIGHTS, names)
    digests = {WEIGHTS: _sha256(folder / WEIGHTS)}
    if takes_card:
        _write_card(folder / CARD, card)
        digests[CARD] = _sha256(folder / CARD)
    content = {"format": _FORMAT + _VERSION, "config": dict(config), **({"names": list(names)} if names else {})}
    write_json(folder / DESCRIPTION, {**content, "sha256": digests, "versions": versions()})


def refuse_other_files(there: Collection[str], before: Mapping[str, Any] | None, where: str) -> None:
    """Check that those of :data:`FILES` that are ``there`` may be replaced; ``before``: what ``config.json`` says.

    Raises:
        UserError: weights or a configuration are there that are not of this form, such as a run's.
    """
    others = [name for name in (DESCRIPTION, WEIGHTS) if name in there]
    if before is None and others:
        found = " and ".join(others)
        raise UserError(f"{where}: holds {found} of another kind; expected none, or those of an earlier save")


def _takes_card(path: Path, before: Mapping[str, Any] | None, card: str) -> bool:
    """Tell whether a model card may be written: unless there is one that this program did not write; says so.

    One that is the same as ``card`` is of a save that was interrupted before it was noted.
    """
    digests = (before or {}).get("sha256")
    known = digests.get(CARD) if isinstance(digests, dict) else None
    if path.exists() and _sha256(path) not in (known, hashlib.sha256(_encoded(card)).hexdigest()):
        logger.info("%s: stays as it is, since it was not written here or was changed", path)
        return False
    return True


def _write_card(path: Path, card: str) -> None:
    with replace_file(path) as partial:
        partial.write_bytes(_encoded(card))


def _encoded(card: str) -> bytes:
    return card.encode(errors="replace")  # names may hold halves of characters


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
