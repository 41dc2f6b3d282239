"""Find the state dict in what a training script saved, and take the names of its wrappers off the tensors' names."""

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deeplab_fast.errors import UserError

logger = logging.getLogger("deeplab_fast")

# Averaged weights first: they are the ones that whoever saved them evaluates.
AVERAGES = ("average", "model_ema", "state_dict_ema", "model_state_dict_ema", "ema_model", "ema")
STATES = (
    *("model_state_dict", "state_dict", "model_state", "model", "net", "network"),
    *("net_state_dict", "network_state_dict", "module", "weights", "params"),
)
# Never taken, only told of: mmengine stores the averaged weights as 'state_dict' and the others under this name.
OTHERS = ("ema_state_dict",)
DEEPEST = 4  # wrappers within wrappers

# Wrappers that may stand before any part of a name: DataParallel, torch.compile, FSDP, activation checkpointing.
ANYWHERE = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Attributes under which a Lightning module or another wrapper keeps its network.
IN_FRONT = frozenset({"model", "net", "network", "segmentor", "segmentation_model", "deeplab", "deeplabv3"})


def find_state(content: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """Return the tensors of the network, under the names in the file; says which were taken where there is a choice.

    Raises:
        UserError: there is no tensor under a name.
    """
    state = _find(content, path)
    if state is None:
        held = ", ".join(f"'{key}'" for key in list(content)[:6]) or "nothing"
        raise UserError(f"{path}: holds no tensor under a name; expected a state dict, found {held}")
    return state


def _find(content: Mapping[Any, Any], path: Path, depth: int = 0) -> dict[str, Tensor] | None:
    inner = {key: content[key] for key in (*AVERAGES, *STATES, *OTHERS) if isinstance(content.get(key), Mapping)}
    found: dict[str, dict[str, Tensor]] = {}
    if depth < DEEPEST:
        found = {key: state for key, value in inner.items() if (state := _find(value, path, depth + 1)) is not None}
    usable = [key for key in found if key not in OTHERS]
    if usable:
        taken, *others = [*usable, *(key for key in found if key in OTHERS)]
        if others:
            logger.info("%s: takes '%s'; also there: %s", path, taken, ", ".join(f"'{key}'" for key in others))
        return found[taken]
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)} or None


def relabel(state: dict[str, Tensor], label: Callable[[str], str], path: Path) -> dict[str, Tensor]:
    """Return ``state`` under the names that ``label`` gives.

    Raises:
        UserError: two tensors then have the same name: the file holds several networks.
    """
    found: dict[str, Tensor] = {}
    source: dict[str, str] = {}
    for key, tensor in state.items():
        name = label(key)
        if name in found:
            raise UserError(f"{path}: holds both {source[name]} and {key}; expected one network")
        found[name], source[name] = tensor, key
    return found


def bare_name(key: str) -> str:
    """Return a tensor's name without wrappers, in any order and repetition: ``_orig_mod.module.x`` -> ``x``."""
    parts = _network_parts(key)
    while len(parts) > 1 and parts[0] in IN_FRONT:
        parts = parts[1:]
    return ".".join(parts)


def beside_network(names: Collection[str]) -> list[str]:
    """Return the names outside the attribute that holds the network, as a loss's weights are; none if there is none."""
    outside = [name for name in names if _network_parts(name)[0] not in IN_FRONT]
    return outside if len(outside) < len(names) else []


def _network_parts(key: str) -> list[str]:
    return [part for part in key.split(".") if part not in ANYWHERE] or [key]
