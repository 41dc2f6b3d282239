"""Read a file of weights: any that torch.save wrote, or ``.safetensors``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from deeplab_fast.errors import UserError
from deeplab_fast.storage import checkpoint

from .families import TORCHVISION, Family, family_of
from .safe import SAFE_GLOBALS
from .wrappers import bare_name, beside_network, find_state, relabel


@dataclass(frozen=True)
class WeightFile:
    """Tensors of a file under this model's key names, and the configuration stored with them, if any."""

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]
    family: Family = TORCHVISION
    beside: frozenset[str] = frozenset()  # names that stand beside the network, where it is an attribute of another
    is_ours: bool = False  # written by this program


def read_weights(path: str | Path) -> WeightFile:
    """Read a state dict, bare or wrapped, with our names, torchvision's or another project's (:mod:`.families`).

    Nothing in the file is executed. A file may hold arguments and numbers beside the weights (:mod:`.safe`).

    Raises:
        UserError: missing, damaged, without any tensor, or with several networks in one state dict.
    """
    path = Path(path)
    content = _safetensors(path) if path.suffix == ".safetensors" else checkpoint.load(path, allow=SAFE_GLOBALS)
    config = content.get("config")
    state = find_state(content, path)
    beside = frozenset(bare_name(key) for key in beside_network(state))
    state = relabel(state, bare_name, path)
    family = family_of(state)
    return WeightFile(
        path,
        tensors=relabel(state, family.rename, path),
        config=dict(config) if isinstance(config, Mapping) else {},
        family=family,
        beside=beside,
        is_ours=str(content.get("format", "")).startswith("deeplab_fast."),
    )


def _safetensors(path: Path) -> dict[str, Any]:
    import safetensors
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        reason = "no such file" if not path.exists() else str(error)
        raise UserError(f"{path}: not a safetensors file that can be read ({reason})") from None
