"""A fast, exact DeepLabV3 trainer. Importing this package imports nothing heavy.

The public API, imported at first use: :class:`ModelConfig`, :func:`build_model`,
:func:`load_pretrained`; operations are in :mod:`deeplab_fast.ops`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_API = {
    "ModelConfig": "deeplab_fast.config",
    "build_model": "deeplab_fast.model",
    "load_pretrained": "deeplab_fast.model.weights",
}

__all__ = ["ModelConfig", "__version__", "build_model", "load_pretrained"]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
