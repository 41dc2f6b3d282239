"""What the tests of one process share beside their fixtures, so that they pass in any order (``make shuffled``).

A test leaves it as it was, or is named; and draws the same random numbers wherever it stands.
"""

import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch

LOG = logging.getLogger("deeplab_fast")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
# Set once in a process: by libraries, when they are first imported or run, and by pytest for each test.
SET_ONCE = {
    *("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
    *("WANDB_SERVICE", "MLFLOW_ALLOW_FILE_STORE", "LD_LIBRARY_PATH"),
}

STATE: dict[str, Callable[[], Any]] = {
    "the current folder": os.getcwd,
    "the environment": lambda: {k: v for k, v in os.environ.items() if k not in SET_ONCE},
    "sys.argv": lambda: list(sys.argv),
    "sys.path": lambda: [path for path in sys.path if "site-packages" not in path],
    "answers to signals": lambda: [signal.getsignal(number) for number in SIGNALS],
    "the excepthook": lambda: sys.excepthook,
    "the root logger": lambda: (logging.root.level, logging.root.manager.disable),
    "the package's logger": lambda: (LOG.level, LOG.propagate, LOG.disabled),
    "torch's default type": torch.get_default_dtype,
    "torch's threads": torch.get_num_threads,
    "torch's gradients": lambda: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    "torch's search for anomalies": torch.is_anomaly_enabled,
    "torch's determinism": lambda: (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    ),
    "torch's precision": torch.get_float32_matmul_precision,
    "torch's autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "cuDNN's flags": lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    "Pillow's limits": lambda: (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
    "the sockets' timeout": socket.getdefaulttimeout,
}  # fmt: skip


def difference(before: Any, after: Any) -> str:
    """Say what is another one; of a dictionary, which of its values."""
    if isinstance(before, dict):
        keys = [key for key in before | after if before.get(key) != after.get(key)]
        before, after = ({key: of.get(key) for key in keys} for of in (before, after))
    return f"{before!r} -> {after!r}"


def seed() -> None:
    """Begin the global generators anew."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    seed()  # before the fixtures of a module or session, which the first test that asks for them sets up


@pytest.fixture(autouse=True)
def same_state() -> Iterator[None]:
    """Fail a test that leaves anything of ``STATE`` changed once its own fixtures are taken down."""
    seed()
    before = {name: read() for name, read in STATE.items()}
    yield
    after = {name: read() for name, read in STATE.items()}
    changed = [f"{name}: {difference(before[name], after[name])}" for name in STATE if after[name] != before[name]]
    assert not changed, "left changed for the next test: " + "; ".join(changed)
