"""The state that a training of the MindSpore recipe saves beside its weights: momentum, step, learning rates."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from deeplab_fast.errors import UserError

from .families import MINDSPORE
from .mindspore import read_mindspore
from .read import FIRST_CONV, WeightFile, takes_bgr, weights_in
from .tensors import shape, usable
from .wrappers import bare_name, relabel

_MOMENTS, _STEP, _RATES, _MOMENTUM = "moments.", "global_step", "learning_rate", "momentum"


@dataclass(frozen=True)
class MindsporeTraining:
    """A training's checkpoint under our names, the first convolution in RGB.

    ``moments``: the momentum of each parameter, fp32 and of its shape. ``step``: updates done. ``rates``: the learning
    rate of each step, ``[steps]``, and ``momentum``: the coefficient; None where the file has none.
    """

    weights: WeightFile
    moments: dict[str, Tensor]
    step: int
    rates: Tensor | None
    momentum: float | None


def read_training(path: Path, channels: str = "auto") -> MindsporeTraining:
    """Read a checkpoint that MindSpore saved while it trained with Momentum.

    ``channels`` as of :func:`deeplab_fast.model.weights.read_weights`.

    Raises:
        UserError: it cannot be read or is damaged, or has no momentum or no count of steps.
    """
    content = read_mindspore(path)
    slots = {
        key.removeprefix(_MOMENTS): value
        for key, value in content.items()
        if key.startswith(_MOMENTS) and isinstance(value, Tensor)
    }
    if not slots:
        raise UserError(f"{path}: has no {_MOMENTS}*; expected a checkpoint of a training with Momentum")
    network = {key: value for key, value in content.items() if not key.startswith(MINDSPORE.training)}
    weights = weights_in(network, path, channels)
    moments = relabel(slots, lambda key: weights.family.rename(bare_name(key)), path)
    moments = {key: usable(path, f"{_MOMENTS}{key}", value) for key, value in moments.items()}
    first = moments.get(FIRST_CONV)
    if first is not None and first.dim() == 4 and takes_bgr(weights.family, channels):
        moments[FIRST_CONV] = first.flip(1)
    rates, momentum = content.get(_RATES), content.get(_MOMENTUM)
    return MindsporeTraining(
        weights,
        moments,
        step=_count(path, content.get(_STEP)),
        rates=rates.flatten() if isinstance(rates, Tensor) and rates.is_floating_point() else None,
        momentum=float(momentum) if isinstance(momentum, Tensor) and momentum.numel() == 1 else None,
    )


def _count(path: Path, value: object) -> int:
    if value is None:
        raise UserError(f"{path}: has no {_STEP}; expected a checkpoint of a training")
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_floating_point() or value.is_complex():
        found = shape(value) if isinstance(value, Tensor) else "a text"
        raise UserError(f"{path}: {_STEP} is {found}; expected one whole number")
    if int(value) < 0:
        raise UserError(f"{path}: {_STEP} is {int(value)}; expected at least 0")
    return int(value)
