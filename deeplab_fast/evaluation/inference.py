"""A trained model as its checkpoint describes it: for evaluation, prediction and export."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..config import ImageConfig, ModelConfig, ProtocolConfig, SegmenterConfig
from ..config.flags import check_type, check_value, validate
from ..errors import UserError
from ..model import DeepLabV3, build_model
from ..model.weights import (
    WeightFile,
    assumed_config,
    infer_config,
    load_exactly,
    read_file_or_folder,
    refuse_other_networks,
)

C = TypeVar("C", bound=ModelConfig)


def stored_flags(config_class: type) -> list[str]:
    """Return the flags that a file decides where they are not given: those of the network and its images.

    Where images are segmented, the protocol's, too; scores are measured by the protocol that is asked for.
    """
    protocol = (ProtocolConfig,) if issubclass(config_class, SegmenterConfig) else ()
    found = [field.name for c in (ModelConfig, ImageConfig, *protocol) for field in dataclasses.fields(c)]
    return [name for name in found if name != "freeze_bn"]


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

    A run's folder stands for its ``best.pt``, and one of the Hugging Face Hub's form for its ``model.safetensors``.
    Flags not given take the values stored in the checkpoint or, where it is not one of ours, what its tensors and its
    origin say.

    Raises:
        UserError: no checkpoint given, not readable, of another network than ours or than the flags say, or with a
            non-finite weight.
    """
    if not flags.get("ckpt_path"):
        raise UserError("--ckpt_path: missing; expected a checkpoint (.pt, .pth, .safetensors, .ckpt)")
    path = Path(flags["ckpt_path"])
    file = read_file_or_folder(path, flags.get("ckpt_channels", "auto"))
    if file.path != path:
        flags = flags | {"ckpt_path": str(file.path)}
    return network_of(config_class, file, flags)


def network_of(config_class: type[C], file: WeightFile, flags: dict[str, Any]) -> Trained[C]:
    """Build and fill the network of a file that was read, as :func:`load_trained`.

    Raises:
        UserError: it is of another network than ours or than the flags say, or has a non-finite weight.
    """
    refuse_other_networks(file)
    stored = stored_config(file, config_class)
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
        raise UserError(
            f"{file.described_in or file.path}: damaged: 'names' does not hold the names of {count} classes"
        )
    return tuple(names)


def stored_config(file: WeightFile, config_class: type) -> dict[str, Any]:
    """Return those of :func:`stored_flags` that a file of this program stores.

    Another program's ``config`` may hold the same names with other meanings (means of 0-1, channels in another order):
    nothing of it is taken.

    Raises:
        UserError: a value is not what the flag takes.
    """
    if not file.is_ours:
        return {}
    names = stored_flags(config_class)
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in file.config.items() if k in names}
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for name, value in found.items():
        try:
            check_type(name, value, hints[name])
            check_value(name, value, hints[name], fields[name].metadata)
        except UserError as error:
            raise UserError(f"{file.described_in or file.path}: damaged configuration: {error}") from None
    return found
