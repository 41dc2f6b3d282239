"""Others' Python code without coverage's tracer.

The tracer is asked at every line of it, whose file is then none that is measured: tracing a network for an export took
23 CPU seconds and not 11. Where nothing is measured, nothing here does anything.
"""

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

IMPORTED_LATER = (
    *("torch", "torch._dynamo", "torch.export", "torch.onnx", "torch.utils.tensorboard", "torch.distributed.run"),
    *("scipy.io", "scipy.stats", "matplotlib.pyplot", "sklearn.metrics", "onnxruntime.quantization", "onnxscript"),
)
# Functions that run others' code for seconds; of ours they run what runs elsewhere too, or read its bytecode.
LONG = ("torch.export:export", "torch.export:save", "torch.export:load", "torch.onnx:export")


@contextmanager
def untraced() -> Iterator[None]:
    """Let nothing be measured within."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def trace_less() -> None:
    """Import what the tests import anyway, and let the long functions run, without the tracer."""
    if sys.gettrace() is None:
        return
    with untraced():
        for name in IMPORTED_LATER:
            with suppress(ImportError):
                importlib.import_module(name)
    for place in LONG:
        module, name = place.split(":")
        setattr(sys.modules[module], name, _untraced(getattr(sys.modules[module], name)))


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with untraced():
            return function(*args, **options)

    return call
