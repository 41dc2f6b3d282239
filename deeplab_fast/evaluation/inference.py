"""A trained model as its checkpoint describes it: for evaluation, prediction and export."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..config import ImageConfig, ModelConfig
from ..config.flags import check_type, check_value, validate
from ..errors import UserError
from ..model import DeepLabV3, build_model
from ..model.weights import WeightFile, assumed_config, infer_config, load_exactly, read_weights, refuse_other_networks
from ..storage.checkpoint import BEST

C = TypeVar("C", bound=ModelConfig)

_STORED = {f.name: f for c in (ModelConfig, ImageConfig) for f in dataclasses.fields(c) if f.name != "freeze_bn"}


class Trained(NamedTuple, Generic[C]):
    """A configuration, its model, and the names of the classes, none where the file has none."""

    config: C
    model: DeepLabV3
    names: tuple[str, ...]


def trained_model(config_class: type[C], flags: dict[str, Any]) -> tuple[C, DeepLabV3]:
    """Load configuration and model alone, as :func:`load_trained`."""
    return load_trained(config_class, flags)[:2]


def load_trained(config_class: type[C], flags: dict[str, Any]) -> Trained[C]:
    """Load the configuration, the model (fp32, CPU, in evaluation mode) and the classes' names of ``--ckpt_path``.

    A run folder stands for its ``best.pt``. Flags not given take the values stored in the checkpoint
    or, where it is not one of ours, what its tensors and its origin say.

    Raises:
        UserError: no checkpoint given, not readable, of another network than ours or than the flags say, or with a
            non-finite weight.
    """
    if not flags.get("ckpt_path"):
        raise UserError("--ckpt_path: missing; expected a checkpoint (.pt, .pth, .safetensors, .ckpt)")
    path = Path(flags["ckpt_path"])
    if path.is_dir():
        path = path / BEST
        flags = flags | {"ckpt_path": str(path)}
    return network_of(config_class, read_weights(path, flags.get("ckpt_channels", "auto")), flags)


def network_of(config_class: type[C], file: WeightFile, flags: dict[str, Any]) -> Trained[C]:
    """Build and fill the network of a file that was read, as :func:`load_trained`.

    Raises:
        UserError: it is of another network than ours or than the flags say, or has a non-finite weight.
    """
    refuse_other_networks(file)
    stored = stored_config(file)
    given = {**infer_config(file), **stored, **flags}
    if not stored or ("model" not in stored and given.get("head") != "recipe"):
        given |= assumed_config(file, given)
    config = config_class(**given)
    validate(config)
    model = build_model(config)
    load_exactly(model, file)
    return Trained(config, model.eval(), stored_names(file, config.num_classes))


def stored_names(file: WeightFile, count: int) -> tuple[str, ...]:
    """Return the names of the classes that a file of this program stores; none where it has none.

    Raises:
        UserError: they are no ``count`` words.
    """
    names = file.names
    if not file.is_ours or names is None:
        return ()
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise UserError(f"{file.path}: damaged: 'names' does not hold the names of {count} classes")
    return tuple(names)


def stored_config(file: WeightFile) -> dict[str, Any]:
    """Return the flags of the network and its images that a file of this program stores.

    Another program's ``config`` may hold the same names with other meanings (means of 0-1, channels in another order):
    nothing of it is taken.

    Raises:
        UserError: a value is not what the flag takes.
    """
    if not file.is_ours:
        return {}
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in file.config.items() if k in _STORED}
    hints = {**typing.get_type_hints(ModelConfig), **typing.get_type_hints(ImageConfig)}
    for name, value in found.items():
        try:
            check_type(name, value, hints[name])
            check_value(name, value, hints[name], _STORED[name].metadata)
        except UserError as error:
            raise UserError(f"{file.path}: damaged configuration: {error}") from None
    return found
