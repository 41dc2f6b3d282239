"""Training from a server gives the bits of training from a disk, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deeplab_fast import eval as evaluation
from deeplab_fast import train
from deeplab_fast.errors import Interrupted, UserError
from deeplab_fast.prepare import check
from deeplab_fast.storage import arrivals, download
from deeplab_fast.training import fit
from tests.data.remote_records import SHARDS, as_served, flags, outcome, trained, write_sets
from tests.faults.tiny import make_tiny
from tests.file_server import Answer, serving
from tests.spawning import free_port

REPO = Path(__file__).parent.parent.parent
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch.setattr)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.02, 0.03))
    monkeypatch.setattr(fit, "write_report", lambda folder, *_, **__: folder)  # pictures take most of the time


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def from_disk(sets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        trained(folder, f"{sets}/train.tar", f"{sets}/val.tar", folder / "cache")
    return outcome(folder)


@pytest.fixture
def server(sets):
    with serving(as_served(sets)) as state:
        yield state


def urls(server):
    return f"{server.url}/r/train-{{00000..0000{SHARDS - 1}}}.tar", f"{server.url}/r/val.tar"


def test_a_run_from_a_server_is_the_run_from_a_disk(server, from_disk, tmp_path):
    for threads in (0, 3):  # the second run finds all shards in the cache
        run = tmp_path / f"run-{threads}"
        trained(run, *urls(server), tmp_path / "cache", f"--num_workers={threads}")
        assert outcome(run) == from_disk
        assert sorted(server.asked_for(".tar")) == [
            *(f"/r/train-0000{i}.tar" for i in range(SHARDS)),
            "/r/val-00000.tar",
        ]


def test_without_the_extension_too(server, from_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab_fast.ops.extension.decoder", lambda: (None, "off"))
    trained(tmp_path / "run", *urls(server), tmp_path / "cache")
    assert outcome(tmp_path / "run") == from_disk


def test_a_server_that_drops_every_third_connection_changes_nothing(server, from_disk, tmp_path):
    server.every_third = Answer(stop_after=3_000)
    trained(tmp_path / "run", *urls(server), tmp_path / "cache")
    assert outcome(tmp_path / "run") == from_disk


def test_a_run_goes_on_in_the_midst_of_an_epoch_with_what_the_cache_has(server, from_disk, tmp_path):
    run, cache = tmp_path / "run", tmp_path / "cache"
    trained_to(6, run, *urls(server), cache)
    shard = sorted(cache.glob("train-*/*.tar"))[2]
    shard.rename(shard.with_suffix(".tar.partial"))
    server.requests.clear()
    trained(run, *urls(server), cache)
    assert outcome(run) == from_disk
    assert server.asked_for(".tar") == ["/r/train-00002.tar"]


def trained_to(step, run, *where):
    """Train until the end of ``step``, at which a Ctrl-C comes."""
    from deeplab_fast.training.trainer import Trainer

    with pytest.MonkeyPatch.context() as patch:
        asked = Trainer._asked

        def stop_there(self, boundary):
            if self.state.step == step:
                signal.raise_signal(signal.SIGINT)
            return asked(self, boundary)

        patch.setattr(Trainer, "_asked", stop_there)
        assert train.main(flags(run, *where)) == 128 + signal.SIGINT


def test_a_shard_that_does_not_come_ends_the_run_with_its_steps_saved(server, from_disk, tmp_path, caplog):
    run, cache = tmp_path / "run", tmp_path / "cache"
    trained_to(1, run, *urls(server), cache)
    shard = sorted(cache.glob("train-*/*.tar"))[1]
    shard.unlink()
    server.by_path = {"/r/train-00001.tar": Answer(status=500)}
    with pytest.raises(UserError, match=rf"train-00001.tar: cannot be downloaded \({server.url}.*500"):
        trained(run, *urls(server), cache)
    server.by_path = {}
    trained(run, *urls(server), cache)
    assert outcome(run) == from_disk


def test_a_wrong_digest_ends_the_run(server, tmp_path):
    path = "/r/train-00001.tar"
    server.by_path = {path: Answer(content=bytes(reversed(server.files[path])))}
    with pytest.raises(UserError, match="its SHA-256 is"):
        trained(tmp_path / "run", *urls(server), tmp_path / "cache")


def test_a_missing_shard_is_no_bad_sample(server, tmp_path):
    server.by_path = {"/r/train-00001.tar": Answer(status=500)}
    with pytest.raises(UserError, match="cannot be downloaded"):
        trained(tmp_path / "run", *urls(server), tmp_path / "cache", "--on_bad_sample=skip")


def test_no_secret_is_kept_with_a_run(server, tmp_path, caplog):
    train_url, val_url = (url.replace("http://", "http://me:hush@") + "?sig=token" for url in urls(server))
    trained(tmp_path / "run", train_url, val_url, tmp_path / "cache")
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"/r/train-{00000..00003}.tar" in kept
    for secret in (b"hush", b"sig=token"):
        assert secret not in kept
        assert secret.decode() not in caplog.text


def test_an_evaluation_and_a_check_are_those_of_a_disk(server, sets, tmp_path, capsys):
    trained(tmp_path / "run", *urls(server), tmp_path / "cache")
    figures = []
    for name, data in (("disk", f"{sets}/train.tar"), ("server", f"{urls(server)[0]}?sig=token")):
        report = tmp_path / name
        assert not evaluation.main(
            [f"--ckpt_path={tmp_path / 'run'}", f"--data_file={data}", f"--report={report}", "--device_target=CPU",
             f"--record_cache={tmp_path / name}-cache"]
        )  # fmt: skip
        metrics = next(report.glob("metrics-*.json"))
        assert "token" not in metrics.name + metrics.read_text()
        figures.append(json.loads(metrics.read_text())["confusion_matrix"])
        capsys.readouterr()
        check.main([f"--data_file={data}", f"--record_cache={tmp_path / name}-check"])
        figures.append(capsys.readouterr().out)
    assert figures[:2] == figures[2:]


TWO_RUNS = """
import os, sys
from deeplab_fast import train
from tests.faults.tiny import make_tiny
make_tiny()
for port, arguments in zip(sys.argv[1:3], (sys.argv[3].split("|"), sys.argv[4].split("|"))):
    os.environ["MASTER_PORT"] = port
    assert train.main(arguments) == 0
"""


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in PROXIES}
    return kept | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"} | more


def test_two_processes_share_the_cache(server, sets, tmp_path):
    runs = {"disk": (f"{sets}/train.tar", f"{sets}/val.tar"), "server": urls(server)}
    shared = (tmp_path / "cache", "--batch_size=2", "--is_distributed=True", "--num_workers=0")
    arguments = ["|".join(map(str, flags(tmp_path / name, *files, *shared))) for name, files in runs.items()]
    command = [sys.executable, "-c", TWO_RUNS, str(free_port()), str(free_port()), *arguments]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=REPO, env=environment(RANK=rank, LOCAL_RANK=rank, **world)
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert outcome(tmp_path / "disk") == outcome(tmp_path / "server")
    assert len(server.asked_for(".tar")) == SHARDS + 1


def interrupt_once_asked_for(server, path, interrupt):
    """Call ``interrupt``, in a thread, a moment after a request for ``path`` came."""

    def wait():
        until = time.monotonic() + 60
        while path not in server.asked_for(".tar") and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        interrupt()

    threading.Thread(target=wait, daemon=True).start()


def test_a_stop_while_held_out_samples_are_waited_for_ends_the_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "_END_S", 0.2)
    server.by_path = {"/r/val-00000.tar": Answer(hold=threading.Event())}
    interrupt_once_asked_for(server, "/r/val-00000.tar", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="SIGINT"):
        trained(tmp_path / "run", *urls(server), tmp_path / "cache")
    assert server.spoke == []


def test_ctrl_c_while_a_batch_is_waited_for_ends_at_once(server, from_disk, tmp_path):
    """The program ends while its thread waits for a server that says nothing, and goes on when it speaks again."""
    server.by_path = {"/r/train-00001.tar": Answer(hold=threading.Event())}
    arguments = (tmp_path / "run", *urls(server), tmp_path / "cache")
    command = [sys.executable, "-m", "tests.faults.tiny", *flags(*arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=REPO)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "waiting for train-00001.tar" in line:
            break
    process.send_signal(signal.SIGINT)
    said = "".join(lines) + process.communicate(timeout=250)[1]
    assert server.spoke == []
    assert process.returncode == 128 + signal.SIGINT, said
    assert "run again to continue" in said
    assert "Traceback" not in said
    server.by_path = {}
    trained(*arguments)
    assert outcome(tmp_path / "run") == from_disk
