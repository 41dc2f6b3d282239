"""The only import of the compiled extension; keeps the reason where it is not there."""

import importlib
import os
from functools import lru_cache
from types import ModuleType


@lru_cache(maxsize=1)
def load() -> tuple[ModuleType | None, str]:
    """The extension module, or None and why not."""
    if os.environ.get("DEEPLAB_FAST_NO_EXT"):
        return None, "switched off by DEEPLAB_FAST_NO_EXT"
    try:
        return importlib.import_module("deeplab_fast._C"), ""
    except ImportError as error:
        return None, f"not built or not loadable ({error}); build it with 'pip install .' where a C++17 compiler is"


def status() -> str:
    """One line for the capability report."""
    module, reason = load()
    if module is None:
        return f"none: {reason}; the Python references serve"
    info = module.build_info()
    return ", ".join(f"{k} {v}" for k, v in info.items())
