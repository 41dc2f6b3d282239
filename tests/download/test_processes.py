"""Downloads by several processes, and what one that was killed leaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.storage import partial
from tests.download.fetching import SHA256, fetch, is_whole, names
from tests.file_server import Answer

REPO = Path(__file__).parents[2]


DOWNLOAD = """
import sys
from pathlib import Path
from deeplab_fast.storage import download as module
from deeplab_fast.storage.remote import RemoteFile
module.logger.setLevel("INFO")
module.logger.addHandler(module.logging.StreamHandler())
print(module.download(RemoteFile("w.bin", (sys.argv[1],), sha256=sys.argv[2]), Path(sys.argv[3])))
"""


def start(server, folder):
    command = [sys.executable, "-c", DOWNLOAD, f"{server.url}/w.bin", SHA256, str(folder / "w.bin")]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def size_of(path):
    return path.stat().st_size if path.exists() else 0


@pytest.mark.fault("killed at a file operation")
def test_a_killed_process_leaves_what_the_next_goes_on_with(server, tmp_path):
    server.answers = [Answer(gate=threading.Event())]
    process = start(server, tmp_path)
    wait_for(lambda: size_of(tmp_path / "w.bin.partial") > 60_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "w.bin").exists()
    have = size_of(tmp_path / "w.bin.partial")
    assert fetch(server, tmp_path)
    assert server.requests == [("/w.bin", None), ("/w.bin", f"bytes={have}-")]
    assert is_whole(tmp_path)


@pytest.mark.fault("a file that is torn, flipped or another")
def test_bytes_that_rotted_in_between_are_brought_again(server, tmp_path):
    server.default = Answer(stop_after=10_000)
    with pytest.raises(UserError, match="ended after"):
        fetch(server, tmp_path)
    with (tmp_path / "w.bin.partial").open("r+b") as file:
        file.write(b"rot")
    server.default = Answer()
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("text", ["", "[]", '{"url": 3}', '{"url": "x", "validator": "y", "total": "z"}'])
def test_a_note_that_cannot_be_read_means_to_begin_anew(text, server, tmp_path):
    (tmp_path / "w.bin.partial").write_bytes(b"something")
    (tmp_path / "w.bin.partial.json").write_text(text)
    assert fetch(server, tmp_path)
    assert server.requests == [("/w.bin", None)]
    assert is_whole(tmp_path)


@pytest.mark.fault("two programs in one folder")
def test_of_two_processes_one_downloads(server, tmp_path):
    gate = threading.Event()
    server.answers = [Answer(gate=gate)]
    first = start(server, tmp_path)
    wait_for(lambda: size_of(tmp_path / "w.bin.partial") > 0)
    second = start(server, tmp_path)
    assert "another process is downloading it; waiting" in second.stderr.readline()
    gate.set()
    assert [process.communicate(timeout=120)[0] for process in (first, second)] == ["True\n", "False\n"]
    assert len(server.requests) == 1
    assert is_whole(tmp_path)


@pytest.mark.fault("killed at a file operation")
def test_who_waited_for_one_that_was_killed_goes_on(server, tmp_path):
    server.answers = [Answer(gate=threading.Event())]
    first = start(server, tmp_path)
    wait_for(lambda: size_of(tmp_path / "w.bin.partial") > 60_000)
    second = start(server, tmp_path)
    assert "waiting" in second.stderr.readline()
    first.kill()
    first.communicate()
    assert second.communicate(timeout=120)[0] == "True\n"
    assert server.requests[1][1] is not None
    assert is_whole(tmp_path)


def test_a_file_system_without_locks_keeps_processes_apart_by_name(server, tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "lock", lambda descriptor, wait: False)
    server.answers = [Answer(stop_after=1000)] * 4
    with pytest.raises(UserError, match="ended after"):
        fetch(server, tmp_path)
    assert names(tmp_path) == [f"w.bin.{os.getpid()}.partial", f"w.bin.{os.getpid()}.partial.json"]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)
