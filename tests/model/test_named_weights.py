"""Weights by name: a file of that name, this program's cache, torch.hub's, and last the network."""

import hashlib
import logging
import os
from dataclasses import replace

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.model.weights import find_weights, named
from deeplab_fast.model.weights.named import imagenet_weights
from tests.file_server import serving

CONTENT = b"weights" * 100
NAME = "resnet18-imagenet"
FLAG = "--ckpt_pre_trained"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of ``NAME``'s file; the caches are in ``tmp_path``, which is the working directory."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with serving({"/w.pth": CONTENT}) as state:
        entry = named.PRETRAINED[NAME]
        digest = hashlib.sha256(CONTENT).hexdigest()[:8]
        there = replace(entry.file, name="w.pth", urls=(f"{state.url}/w.pth",), sha256=digest)
        monkeypatch.setitem(named.PRETRAINED, NAME, replace(entry, file=there))
        yield state


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_downloaded_once_into_the_cache(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        found = [find_weights(NAME, FLAG) for _ in range(2)]
    assert found == [tmp_path / ".cache/deeplab_fast/weights/w.pth"] * 2
    assert found[0].read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert caplog.text.count("IMAGENET1K_V1 (BSD-3-Clause") == 1


def test_another_cache(server, tmp_path):
    assert find_weights(NAME, FLAG, tmp_path / "c") == tmp_path / "c/weights/w.pth"


@pytest.mark.parametrize("home", ["", "torch"])
def test_what_torch_hub_has_is_used(home, server, tmp_path, monkeypatch):
    if home:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / home))
    path = put(tmp_path / (home or ".cache/torch") / "hub/checkpoints/w.pth")
    assert find_weights(NAME, FLAG) == path
    assert server.requests == []


def test_what_torch_hub_has_damaged_is_passed_over(server, tmp_path):
    path = put(tmp_path / ".cache/torch/hub/checkpoints/w.pth", b"half")
    assert find_weights(NAME, FLAG) == tmp_path / ".cache/deeplab_fast/weights/w.pth"
    assert path.read_bytes() == b"half"


def test_what_the_cache_has_damaged_is_named(server, tmp_path):
    path = put(tmp_path / ".cache/deeplab_fast/weights/w.pth", b"half")
    with pytest.raises(UserError, match=f"{path}: its SHA-256 is .*; move it away to have it downloaded again"):
        find_weights(NAME, FLAG)


def test_a_file_of_that_name_wins(server, tmp_path):
    put(tmp_path / NAME, b"mine")
    assert os.path.samefile(find_weights(NAME, FLAG), tmp_path / NAME)
    assert named.published(NAME) is None


def test_a_folder_of_that_name_does_not(server, tmp_path):
    (tmp_path / NAME).mkdir()
    assert find_weights(NAME, FLAG).name == "w.pth"


def test_a_path_is_itself(server, tmp_path):
    assert find_weights(str(put(tmp_path / "own é.pth")), FLAG) == tmp_path / "own é.pth"
    assert find_weights(str(tmp_path), FLAG) == tmp_path  # what reads it says that it is a folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet18-imagnet", "=resnet18-imagnet: no such file; did you mean resnet18-imagenet or"),
        ("weights/mine.pth", "=weights/mine.pth: no such file; expected a file, or one of resnet18-imagenet, "),
    ],
)
def test_neither_file_nor_name(text, message, server):
    with pytest.raises(UserError, match=message):
        find_weights(text, FLAG)


def test_without_a_network_the_error_says_what_to_put_where(server, tmp_path):
    server.files.clear()
    where = tmp_path / ".cache/deeplab_fast/weights/w.pth"
    message = rf"get it elsewhere and save it as {where}; or give {FLAG}=FILE or another --cache_dir$"
    with pytest.raises(UserError, match=message):
        find_weights(NAME, FLAG)


def test_a_cache_that_cannot_be_written(server, tmp_path):
    put(tmp_path / ".cache")
    with pytest.raises(UserError, match=rf"w\.pth: cannot be written .*; or give {FLAG}=FILE or another --cache_dir"):
        find_weights(NAME, FLAG)


def test_every_backbone_has_weights_of_imagenet():
    names = {f"resnet{depth}": f"resnet{depth}-imagenet" for depth in (18, 34, 50, 101)}
    assert {backbone: imagenet_weights(backbone) for backbone in names} == names
    assert imagenet_weights("resnet152") is None
