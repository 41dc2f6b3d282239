"""What evaluation, prediction and export share: a trained model as its checkpoint describes it."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from .checkpoint import BEST
from .config import ImageConfig, ModelConfig, validate
from .errors import UserError
from .model import DeepLabV3, build_model
from .model.weights import infer_config, load_exactly, read_weights

C = TypeVar("C", bound=ModelConfig)

_STORED = {f.name for c in (ModelConfig, ImageConfig) for f in dataclasses.fields(c)} - {"freeze_bn"}


def trained_model(config_class: type[C], flags: dict[str, Any]) -> tuple[C, DeepLabV3]:
    """Configuration and model (fp32, CPU, in evaluation mode) of ``--ckpt_path``.

    A run folder stands for its ``best.pt``. Flags not given take the values stored in the checkpoint
    or, where it is not one of ours, what its tensors say.

    Raises:
        UserError: no checkpoint given, not readable, of another model than the flags say, or with a weight that is
            no number.
    """
    if not flags.get("ckpt_path"):
        raise UserError("--ckpt_path: missing; expected a checkpoint (.pt, .pth or .safetensors)")
    path = Path(flags["ckpt_path"])
    if path.is_dir():
        path = path / BEST
        flags = flags | {"ckpt_path": str(path)}
    file = read_weights(path)
    stored = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in file.config.items()
        if k in _STORED and not isinstance(v, dict)
    }
    config = config_class(**{**infer_config(file), **stored, **flags})
    validate(config)
    model = build_model(config)
    load_exactly(model, file)
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{path}: {name} holds NaN or infinity; expected finite weights (did the training diverge?)"
            )
    return config, model.eval()
