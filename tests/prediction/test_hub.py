"""Networks from and to the Hugging Face Hub: its own client, and a server on this machine."""

import json
import sys

import numpy as np
import pytest

import deeplab_fast
from deeplab_fast.errors import UserError
from deeplab_fast.prediction.hub import is_repository
from tests.prediction.hub_server import TOKEN, hub_server
from tests.prediction.networks import NAMES, picture, save_network

constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub: the extra 'hub'")

FLAGS = {"device_target": "CPU", "precision": "fp32"}
FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub, a cache that is empty, and the owner's token where the client looks for it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def segment(weights):
    return deeplab_fast.Segmenter(weights, **FLAGS, flip=True)


@pytest.fixture
def repository(hub, segment, tmp_path):
    """The files of a network in ``owner/net``."""
    folder = segment.save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.repositories["owner/net"] = [files]
    return files


def test_a_pushed_network_comes_back_with_the_same_bits(hub, segment):
    url = segment.push_to_hub("owner/new", token=TOKEN)
    assert url == f"{hub.url}/owner/new/commit/{hub.sha(1)}"
    assert sorted(hub.repositories["owner/new"][-1]) == FILES
    back = deeplab_fast.Segmenter.from_pretrained("owner/new", **FLAGS)
    assert (back.names, back.config.flip) == (tuple(NAMES), True)
    image = picture(60, 90)
    assert np.array_equal(back(image).probabilities, segment(image).probabilities)
    assert 'from_pretrained("owner/new")' in hub.repositories["owner/new"][-1]["README.md"].decode()


def test_no_other_file_is_downloaded_and_what_is_there_not_again(hub, repository):
    hub.repositories["owner/net"][0] = repository | {"best.pt": b"a pickle", "pytorch_model.bin": b"another"}
    deeplab_fast.Segmenter.from_pretrained("owner/net", **FLAGS)
    assert hub.downloaded() == ["config.json", "model.safetensors"]
    hub.requests.clear()
    deeplab_fast.Segmenter.from_pretrained("owner/net", **FLAGS)
    assert hub.downloaded() == []


def test_a_revision_is_taken_as_it_was(hub, repository, unnamed):
    hub.tags["v1"] = 0
    deeplab_fast.Segmenter(unnamed, **FLAGS).push_to_hub("owner/net")
    assert len(hub.repositories["owner/net"]) == 2
    assert deeplab_fast.Segmenter.from_pretrained("owner/net", **FLAGS).names == ("class 0", "class 1", "class 2")
    for revision in ("v1", hub.sha(0)):
        assert deeplab_fast.Segmenter.from_pretrained("owner/net", revision=revision, **FLAGS).names == tuple(NAMES)
    with pytest.raises(UserError, match=r"owner/net: no such folder here, and it cannot be fetched .*no revision v7\)"):
        deeplab_fast.Segmenter.from_pretrained("owner/net", revision="v7", **FLAGS)


def test_what_is_not_public_needs_the_token(hub, repository, segment, monkeypatch):
    hub.private.add("owner/net")
    monkeypatch.delenv("HF_TOKEN")
    for name in ("owner/net", "owner/none"):
        expected = f"{name}: no such folder.*no such repository, or it is not public"
        with pytest.raises(UserError, match=expected) as caught:
            deeplab_fast.Segmenter.from_pretrained(name, token=False, **FLAGS)
        assert "\n" not in str(caught.value)
    assert deeplab_fast.Segmenter.from_pretrained("owner/net", token=TOKEN, **FLAGS).names == tuple(NAMES)
    with pytest.raises(UserError, match=r"owner/new: cannot be pushed to the Hub \(.*401") as caught:
        segment.push_to_hub("owner/new", token="hf_secret")
    assert "hf_secret" not in str(caught.value)


def test_a_card_that_somebody_changed_stays(hub, segment, unnamed):
    segment.push_to_hub("owner/net")
    first = hub.repositories["owner/net"][-1]
    deeplab_fast.Segmenter(unnamed, **FLAGS).push_to_hub("owner/net")  # nobody changed it
    second = hub.repositories["owner/net"][-1]
    assert second["README.md"] != first["README.md"]
    second["README.md"] = b"# Ours\n"
    segment.push_to_hub("owner/net")
    assert hub.repositories["owner/net"][-1] == first | {
        "README.md": b"# Ours\n", "config.json": hub.repositories["owner/net"][-1]["config.json"]
    }  # fmt: skip
    assert "README.md" not in json.loads(hub.repositories["owner/net"][-1]["config.json"])["sha256"]


def test_what_somebody_pushes_meanwhile_is_not_written_over(hub, segment, monkeypatch):
    segment.push_to_hub("owner/net")
    save, edited = segment._save, {"README.md": b"# Edited\n"}

    def slow(*args):
        save(*args)
        hub.repositories["owner/net"].append(hub.repositories["owner/net"][-1] | edited)

    monkeypatch.setattr(segment, "_save", slow)
    with pytest.raises(UserError, match=r"owner/net: cannot be pushed to the Hub \(.*412"):
        segment.push_to_hub("owner/net")
    assert hub.repositories["owner/net"][-1]["README.md"] == b"# Edited\n"


def test_figures_of_other_weights_make_no_repository(hub, segment, tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        segment.push_to_hub("owner/new", metrics=tmp_path / "none.json")
    assert hub.requests == []


def test_another_s_repository_is_not_written_over(hub, segment):
    for files in ({"config.json": b'{"model_type": "segformer"}'}, {"model.safetensors": b"x"}):
        hub.repositories["owner/other"] = [files]
        with pytest.raises(UserError, match=f"owner/other: holds {next(iter(files))} of another kind"):
            segment.push_to_hub("owner/other")
        assert hub.repositories["owner/other"] == [files]


def test_a_repository_without_a_network_and_a_hub_that_is_down(hub, monkeypatch):
    hub.repositories["owner/empty"] = [{"README.md": b"# Soon\n"}]
    with pytest.raises(UserError, match=r"owner/empty: the repository has no model\.safetensors"):
        deeplab_fast.Segmenter.from_pretrained("owner/empty", **FLAGS)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"owner/empty2: no such folder here, and it cannot be fetched.*refused"):
        deeplab_fast.Segmenter.from_pretrained("owner/empty2", **FLAGS)


def test_without_the_package_only_the_hub_is_refused(weights, segment, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    folder = segment.save_pretrained(tmp_path / "saved")
    assert deeplab_fast.Segmenter.from_pretrained(folder, **FLAGS).names == tuple(NAMES)
    for call in (lambda: deeplab_fast.Segmenter.from_pretrained("owner/net"), lambda: segment.push_to_hub("owner/net")):
        with pytest.raises(UserError, match=r"owner/net: .*pip install 'deeplab_fast\[hub\]'"):
            call()


def test_names_of_repositories():
    given = ("a/b", "A-1/b.c_d", "a", "a/b/c", "./a", "../a", "a/", "/a", "a b/c")
    assert [name for name in given if is_repository(name)] == ["a/b", "A-1/b.c_d"]


def test_a_file_of_weights_is_no_repository(weights, tiny, tmp_path):
    found = deeplab_fast.Segmenter.from_pretrained(save_network(tmp_path / "w.pt", names=NAMES), **FLAGS)
    assert found.names == tuple(NAMES)
    with pytest.raises(UserError, match=r"revision=v1: .*best\.pt is on this machine"):
        deeplab_fast.Segmenter.from_pretrained(weights, revision="v1")
    with pytest.raises(UserError, match=r"no/such/folder: no such folder; expected one, or OWNER/NAME"):
        deeplab_fast.Segmenter.from_pretrained("no/such/folder")
    with pytest.raises(UserError, match="repo_id=net: expected OWNER/NAME"):
        found.push_to_hub("net")
