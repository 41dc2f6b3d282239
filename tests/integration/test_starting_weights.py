"""Weights that a run starts from: by name, by several processes, of another backbone, and none."""

import hashlib
import io
import logging
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.config import TrainConfig
from deeplab_fast.distributed import World, process_group
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.model.weights import named
from deeplab_fast.training.start import starting_weights
from tests.faults.tiny import make_tiny
from tests.file_server import Answer, serving
from tests.spawning import in_processes
from tests.trials.samples import small, write_samples

NAME = "resnet18-imagenet"


def register(url, digest, put=dict.__setitem__):
    """Let ``NAME`` be ``w.pth`` at ``url``."""
    entry = named.PRETRAINED[NAME]
    put(
        named.PRETRAINED,
        NAME,
        replace(entry, file=replace(entry.file, name="w.pth", urls=(f"{url}/w.pth",), sha256=digest)),
    )


@pytest.fixture
def weights(monkeypatch):
    """Bytes of a whole tiny ResNet-18 as torchvision saves it."""
    make_tiny(monkeypatch.setattr)
    torch.manual_seed(7)
    backbone = build_model(TrainConfig(backbone="resnet18")).backbone.state_dict()
    buffer = io.BytesIO()
    torch.save({**backbone, "fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}, buffer)
    return buffer.getvalue()


@pytest.fixture
def server(weights, monkeypatch, tmp_path):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with serving({"/w.pth": weights}) as state:
        register(state.url, hashlib.sha256(weights).hexdigest()[:8], monkeypatch.setitem)
        yield state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"))


def run(data, folder, *flags):
    at = [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--train_dir={folder}"]
    return train.main([*small(*at, "--max_steps=1", "--eval_epochs=0"), *flags])


def test_a_run_starts_from_a_name_and_goes_on_without_it(server, data, tmp_path, caplog):
    flags = [f"--ckpt_pre_trained={NAME}", f"--cache_dir={tmp_path}/cache"]
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert run(data, tmp_path / "run", *flags) == 0
    assert f"{tmp_path}/cache/weights/w.pth: " in caplog.text
    assert "random numbers" not in caplog.text
    (tmp_path / "cache/weights/w.pth").unlink()
    caplog.clear()
    assert run(data, tmp_path / "run", *flags[:1], "--max_steps=2") == 0  # what continues needs no weights
    assert "--cache_dir was" not in caplog.text
    assert len(server.requests) == 1


def test_a_run_from_random_weights_says_so_once(data, tmp_path, caplog, monkeypatch):
    make_tiny(monkeypatch.setattr)
    expected = "weights start as random numbers; --ckpt_pre_trained=resnet18-imagenet starts from those of ImageNet"
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        run(data, tmp_path)
        run(data, tmp_path, "--max_steps=2")
    assert caplog.text.count(expected) == 1


def test_another_backbone_is_refused_before_the_download(server, data, tmp_path):
    flags = [f"--ckpt_pre_trained={NAME}", "--backbone=resnet34"]
    with pytest.raises(UserError, match="its backbone is resnet18, this model's resnet34; --backbone=resnet18 fits"):
        run(data, tmp_path / "run", *flags)
    assert server.requests == []


def test_a_mistyped_name_is_said_before_the_data_is_read(data, tmp_path):
    with pytest.raises(UserError, match="no such file; did you mean resnet18-imagenet"):
        run(tmp_path, tmp_path / "run", "--ckpt_pre_trained=resnet18-imagnet")


def of_a_process(rank, url, digest, folder, port):
    """Write the file that ``starting_weights`` returns on this process, or how it ends."""
    register(url, digest)
    Path(folder, f"{rank}.here").touch()
    while not Path(folder, f"{1 - rank}.here").exists():  # three seconds are for the group, not for Python's start
        time.sleep(0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        patch.setenv("MASTER_PORT", str(port))
        world = World(rank, 2, rank)
        config = TrainConfig(backbone="resnet18", ckpt_pre_trained=NAME, cache_dir=f"{folder}/cache")
        with process_group(world, torch.device("cpu"), timeout_s=3):
            begin = time.monotonic()
            try:
                text = str(starting_weights(config, world))
            except (UserError, SystemExit) as error:
                text = f"{type(error).__name__} {error}"
            seconds = time.monotonic() - begin
    (Path(folder) / f"{rank}.txt").write_text(f"{text}\n{seconds}")


def of_two_processes(url, digest, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    in_processes(of_a_process, url, digest, folder, port)
    return zip(*((folder / f"{rank}.txt").read_text().split("\n") for rank in range(2)), strict=True)


def test_of_several_processes_one_downloads_for_longer_than_they_wait_for_each_other(server, weights, tmp_path):
    server.default = Answer(pause_s=4.5)
    found, seconds = of_two_processes(server.url, hashlib.sha256(weights).hexdigest(), tmp_path)
    assert found == (f"{tmp_path}/cache/weights/w.pth",) * 2
    assert min(map(float, seconds)) > 4
    assert len(server.requests) == 1


def test_of_several_processes_one_says_that_it_failed(server, tmp_path):
    server.default = Answer(status=404)
    (first, second), _ = of_two_processes(server.url, "0" * 8, tmp_path)
    assert " w.pth: cannot be downloaded" in first
    assert second == "SystemExit 2"
    assert len(server.requests) == 1
