"""A fast, exact DeepLabV3 trainer. Importing this package imports nothing heavy.

The public API, imported at first use: :func:`fit` of a :class:`TrainConfig`; :class:`ModelConfig`,
:func:`build_model`, :func:`load_pretrained`; :class:`Segmenter` of a trained model; operations are in
:mod:`deeplab_fast.ops`.
"""

import importlib
import os
import signal
import sys
import threading
from typing import Any

from .requirements import unsupported

__version__ = "0.1.0"

_API = {
    "ModelConfig": "deeplab_fast.config",
    "TrainConfig": "deeplab_fast.config",
    "Segmenter": "deeplab_fast.segmenter",
    "fit": "deeplab_fast.training.fit",
    "build_model": "deeplab_fast.model",
    "load_pretrained": "deeplab_fast.model.weights",
}

__all__ = ["ModelConfig", "Segmenter", "TrainConfig", "__version__", "build_model", "fit", "load_pretrained"]


def _starts_a_program() -> bool:
    """Tell whether Python is importing this package on its way to ``python -m deeplab_fast.NAME``."""
    command = getattr(sys, "orig_argv", ["-m", __name__])  # a Python without it is refused below
    program = command[command.index("-m") + 1 :][:1] if "-m" in command else []
    return sys.argv[:1] == ["-m"] and bool(program) and program[0].split(".")[0] == __name__


_wrong = unsupported()
if _wrong is not None:
    if _starts_a_program():
        print(f"error: {_wrong}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_wrong)

if _starts_a_program() and threading.current_thread() is threading.main_thread():
    # A command line is starting: Ctrl-C while it imports torch ends it without a traceback. cli.run takes over.
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(importlib.import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
