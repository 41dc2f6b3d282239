"""What the tests of one process share beside their fixtures, so that they pass in any order (``make shuffled``).

A test leaves it as it was, or is named; and draws the same random numbers wherever it stands.
"""

import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
import torch
from torch import nn

LOG = logging.getLogger("deeplab_fast")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
# Set once in a process: by libraries, when they are first imported or run, and by pytest for each test.
SET_ONCE = {
    *("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
    *("WANDB_SERVICE", "MLFLOW_ALLOW_FILE_STORE", "LD_LIBRARY_PATH"),
    *(f"TORCHINDUCTOR_MAX_AUTOTUNE_BWD_{of}_CONV_BACKENDS" for of in ("INPUT", "WEIGHT")),
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


class SharedNetworks:
    """The networks that fixtures of a module or session return: each of several tests finds them as the first did."""

    def __init__(self) -> None:
        self._of: dict[Any, list[tuple[nn.Module, Any]]] = {}  # by fixture: each network, and its look when it was made

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        made = yield
        if fixturedef.scope != "function":
            parts = made if isinstance(made, (tuple, list)) else made.values() if isinstance(made, dict) else [made]
            self._of[fixturedef] = [(one, look(one)) for one in parts if isinstance(one, nn.Module)]
        return made

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        self._of.pop(fixturedef, None)

    def changed(self) -> list[str]:
        """Say of which fixtures a network looks another way now; once of each change."""
        found = []
        for fixture, networks in self._of.items():
            if any(look(network) != before for network, before in networks):
                found.append(f"a network of the fixture {fixture.argname}")
                self._of[fixture] = [(network, look(network)) for network, _ in networks]
        return found


def look(network: nn.Module) -> Any:
    """Return what changes with any of its tensors, written into or replaced, and with its mode."""
    tensors = (*network.parameters(), *network.buffers())
    versions = [(id(t), None if t.is_inference() else t._version) for t in tensors]
    return versions, [module.training for module in network.modules()]


NETWORKS = SharedNetworks()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(NETWORKS)


@pytest.fixture(autouse=True)
def same_state() -> Iterator[None]:
    """Fail a test that leaves a shared network or any of ``STATE`` changed once its own fixtures are taken down."""
    seed()
    before = {name: read() for name, read in STATE.items()}
    yield
    after = {name: read() for name, read in STATE.items()}
    changed = [f"{name}: {difference(before[name], after[name])}" for name in STATE if after[name] != before[name]]
    changed += NETWORKS.changed()
    assert not changed, "left changed for the next test: " + "; ".join(changed)
