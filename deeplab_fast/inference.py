"""What evaluation, prediction and export share: a trained model as its checkpoint describes it."""

import dataclasses
from typing import Any, TypeVar

from .config import ImageConfig, ModelConfig, validate
from .errors import UserError
from .model import DeepLabV3, build_model
from .model.weights import load_exactly, read_weights

C = TypeVar("C", bound=ModelConfig)

_STORED = {f.name for c in (ModelConfig, ImageConfig) for f in dataclasses.fields(c)} - {"freeze_bn"}


def trained_model(config_class: type[C], flags: dict[str, Any]) -> tuple[C, DeepLabV3]:
    """Configuration and model (fp32, CPU, in evaluation mode) of ``--ckpt_path``.

    Flags not given take the values stored in the checkpoint, where it is one of ours.

    Raises:
        UserError: no checkpoint given, not readable, or of another model than the flags say.
    """
    if not flags.get("ckpt_path"):
        raise UserError("--ckpt_path: missing; expected a checkpoint (.pt, .pth or .safetensors)")
    file = read_weights(flags["ckpt_path"])
    stored = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in file.config.items()
        if k in _STORED and not isinstance(v, dict)
    }
    config = config_class(**{**stored, **flags})
    validate(config)
    model = build_model(config)
    load_exactly(model, file)
    return config, model.eval()
