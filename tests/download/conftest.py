"""A server of one file, and no patience with it."""

import pytest

from deeplab_fast.storage import download as module
from tests.download.fetching import CONTENT
from tests.file_server import serving


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02, 0.03))


@pytest.fixture
def server():
    with serving({"/w.bin": CONTENT, "/again/w.bin": CONTENT}) as state:
        yield state
