"""Locks of folders within one process: whoever waits for long says for what. Two programs: tests/faults/processes."""

import threading

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.storage import locks
from deeplab_fast.storage.locks import lock_folder


def hold(folder, entered, leave):
    with lock_folder(folder):
        entered.set()
        leave.wait()


@pytest.fixture
def held(tmp_path):
    """The folder, locked by a thread until the event."""
    entered, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(tmp_path, entered, leave))
    thread.start()
    entered.wait()
    yield tmp_path, leave
    leave.set()
    thread.join()


def test_a_short_wait_is_silent(held, caplog):
    folder, leave = held
    caplog.set_level("INFO", "deeplab_fast")
    threading.Timer(0.1, leave.set).start()
    with lock_folder(folder) as has_locks:
        assert leave.is_set()
        assert has_locks
    assert not caplog.messages


def test_a_long_wait_says_for_what(held, caplog, monkeypatch):
    folder, leave = held
    caplog.set_level("INFO", "deeplab_fast")
    monkeypatch.setattr(locks, "_SILENT_S", 0.05)
    threading.Timer(0.5, leave.set).start()
    with lock_folder(folder) as has_locks:
        assert leave.is_set()
        assert has_locks
    assert caplog.messages == [f"{folder}: another process is writing there; waiting for it"]


def test_a_folder_that_is_not_waited_for_is_refused(held):
    folder, _ = held
    refused = pytest.raises(UserError, match=r"^--output=x: another run is writing there")
    with refused, lock_folder(folder, "--output=x"):
        pass
