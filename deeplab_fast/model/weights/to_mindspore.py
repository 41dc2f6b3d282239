"""Our weights under the names and in the channel order of the MindSpore recipe: the way back of :mod:`.families`."""

from torch import Tensor

from deeplab_fast.errors import UserError

from .families import MINDSPORE
from .read import FIRST_CONV

_WRAPPER = "network."  # the recipe's programs keep the network as an attribute of this name
_NOT_THERE = "num_batches_tracked"
_CONV_3X3 = "classifier.1.weight"


def as_mindspore(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of ours as the recipe's ``eval.py`` and ``train.py`` load it.

    Raises:
        UserError: the network has a part that the recipe's does not.
    """
    if _CONV_3X3 in tensors:
        raise UserError(
            "the network has another head than the recipe's; expected --head=recipe for a MindSpore checkpoint"
        )
    norms = {key.rpartition(".")[0] for key in tensors if key.endswith(".running_mean")}
    named = {}
    for key, tensor in tensors.items():
        if not key.endswith(_NOT_THERE):
            named[_WRAPPER + mindspore_name(key, norms)] = tensor.flip(1) if key == FIRST_CONV else tensor
    return named


def mindspore_name(key: str, norms: set[str]) -> str:
    """Return the recipe's name of a tensor of ours; ``norms``: the names of the BatchNorms."""
    module, _, name = key.rpartition(".")
    if module in norms:
        name = {new: old for old, new in MINDSPORE.parts}.get(name, name)
    full = f"{module}.{name}"
    for old, new in MINDSPORE.renamed:
        if full.startswith(new):
            return old + full[len(new) :]
    return full
