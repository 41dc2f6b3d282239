"""``prepare download``: from published archives, here small ones on a server of the tests, to the next command."""

import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from deeplab_fast import prepare
from deeplab_fast.data.voc import SBD_DIR, VOC_DIR
from deeplab_fast.errors import UserError
from deeplab_fast.model.weights import named
from deeplab_fast.model.weights.pretrained import PRETRAINED
from deeplab_fast.prepare import published
from deeplab_fast.prepare.published import PUBLISHED
from tests.file_server import Answer, serving

pytestmark = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python 3.11.4 checks archives")

SETS = f"{VOC_DIR}/ImageSets/Segmentation"


def encoded(write, *args, **options):
    buffer = io.BytesIO()
    write(buffer, *args, **options)
    return buffer.getvalue()


def voc_files():
    label = Image.fromarray(np.eye(6, 8, dtype=np.uint8)).convert("P")
    files = {f"{SETS}/train.txt": b"t1\n", f"{SETS}/val.txt": b"v1\n"}
    for name in ("t1", "v1"):
        files[f"{VOC_DIR}/JPEGImages/{name}.jpg"] = encoded(Image.new("RGB", (8, 6)).save, "JPEG")
        files[f"{VOC_DIR}/SegmentationClass/{name}.png"] = encoded(label.save, "PNG")
    return files


def sbd_files():
    structure = np.zeros((1, 1), dtype=[("Segmentation", object)])
    structure[0, 0]["Segmentation"] = np.full((6, 8), 7, np.uint8)
    return {
        f"{SBD_DIR}/train.txt": b"s1\n",
        f"{SBD_DIR}/val.txt": b"v1\n",
        f"{SBD_DIR}/img/s1.jpg": encoded(Image.new("RGB", (8, 6)).save, "JPEG"),
        f"{SBD_DIR}/cls/s1.mat": encoded(savemat, {"GTcls": structure}),
        "benchmark_RELEASE/README": b"of the benchmark",
    }


def archive_of(files, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    """A server of both archives and of one weights file; the tables know their digests and addresses."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    weights = encoded(lambda file: torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file))
    contents = {"voc2012": archive_of(voc_files(), "w"), "sbd": archive_of(sbd_files(), "w:gz")}
    with serving({"/w.pth": weights}) as state:
        for name, content in contents.items():
            entry = PUBLISHED[name]
            size = len(content) if entry.archive.size is not None else None
            state.files[f"/{entry.archive.name}"] = content
            there = replace(
                entry.archive,
                urls=(f"{state.url}/{entry.archive.name}",),
                md5=hashlib.md5(content).hexdigest(),
                size=size,
            )
            monkeypatch.setitem(published.PUBLISHED, name, replace(entry, archive=there))
        entry = PRETRAINED["resnet18-imagenet"]
        digest = hashlib.sha256(weights).hexdigest()[:8]
        there = replace(entry.file, name="w.pth", urls=(f"{state.url}/w.pth",), sha256=digest)
        monkeypatch.setitem(named.PRETRAINED, "resnet18-imagenet", replace(entry, file=there))
        yield state


def paths(server):
    return [path for path, _ in server.requests]


def test_from_nothing_to_the_lists(server, tmp_path, capsys):
    root = tmp_path / "my data"
    assert prepare.main(["download", "voc2012", f"--output={root}"]) == 0
    out = capsys.readouterr().out
    assert f"{root}/{VOC_DIR}: unpacked" in out
    assert f"download sbd --output='{root}'\n" in out
    assert out.endswith(f"next: python -m deeplab_fast.prepare lists --data_root='{root}'\n")
    assert prepare.main(["download", "sbd", f"--output={root}"]) == 0
    assert "download sbd" not in capsys.readouterr().out
    assert (root / "benchmark_RELEASE/README").is_file()
    archives = {data.archive.name for data in PUBLISHED.values()}
    assert {p.name for p in root.iterdir()} == {"VOCdevkit", "benchmark_RELEASE", *archives}
    assert prepare.main(["lists", f"--data_root={root}"]) == 0
    assert "vocaug_train_lst.txt: 2 samples" in capsys.readouterr().out


def test_sbd_alone_asks_for_voc(server, tmp_path, capsys):
    prepare.main(["download", "sbd", f"--output={tmp_path}"])
    assert f"next: python -m deeplab_fast.prepare download voc2012 --output={tmp_path}\n" in capsys.readouterr().out


def test_a_second_run_does_nothing(server, tmp_path, capsys):
    prepare.main(["download", "voc2012", f"--output={tmp_path}"])
    archive = tmp_path / PUBLISHED["voc2012"].archive.name
    archive.unlink()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    prepare.main(["download", "voc2012", f"--output={tmp_path}"])
    assert "there already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert len(server.requests) == 1


def test_an_archive_put_there_by_hand_is_used(server, tmp_path):
    name = PUBLISHED["sbd"].archive.name
    (tmp_path / name).write_bytes(server.files[f"/{name}"])
    prepare.main(["download", "sbd", f"--output={tmp_path}"])
    assert (tmp_path / SBD_DIR / "train.txt").is_file()
    assert server.requests == []


def test_another_archive_put_there_by_hand_is_named(server, tmp_path):
    name = PUBLISHED["sbd"].archive.name
    (tmp_path / name).write_bytes(b"half of it")
    with pytest.raises(UserError, match=rf"{name}: its MD5 is [0-9a-f]+; expected it to be .*move it away"):
        prepare.main(["download", "sbd", f"--output={tmp_path}"])
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_that_is_not_whole_is_named(server, tmp_path):
    (tmp_path / VOC_DIR / "JPEGImages").mkdir(parents=True)
    with pytest.raises(UserError, match=r"VOC2012: is there, but without SegmentationClass; move it away"):
        prepare.main(["download", "voc2012", f"--output={tmp_path}"])


def test_a_mirror_comes_first_and_is_held_to_the_digest(server, tmp_path):
    name = PUBLISHED["sbd"].archive.name
    server.files[f"/near/{name}"] = server.files[f"/{name}"]
    prepare.main(["download", "sbd", f"--output={tmp_path}/a", f"--mirror={server.url}/near/"])
    server.answers = [Answer(content=b"of an older release")]
    prepare.main(["download", "sbd", f"--output={tmp_path}/b", f"--mirror={server.url}/near/{name}"])
    assert paths(server) == [f"/near/{name}"] * 2 + [f"/{name}"]
    assert (tmp_path / "b" / SBD_DIR / "train.txt").is_file()


def test_weights_into_a_folder_or_the_cache(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    prepare.main(["download", "weights", "resnet18-imagenet", f"--output={tmp_path}/w"])
    assert capsys.readouterr().out.endswith(f"--backbone=resnet18 --ckpt_pre_trained={tmp_path}/w/w.pth ...\n")
    for _ in range(2):
        prepare.main(["download", "weights", "resnet18-imagenet"])
        assert "--ckpt_pre_trained=resnet18-imagenet" in capsys.readouterr().out
    assert (tmp_path / "cache/deeplab_fast/weights/w.pth").is_file()
    assert paths(server) == ["/w.pth"] * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "prepare download: expected one of voc2012, sbd or weights NAME"),
        (["voc", "--output=x"], "prepare download voc: unknown; expected one of"),
        (["voc2012", "sbd", "--output=x"], "prepare download voc2012 sbd: expected one of"),
        (["voc2012"], "--output: missing; expected the folder"),
        (["voc2012", "--output=x", "sbd"], "sbd: unexpected"),
        (["sbd", "--output=x", "--mirror=/srv/a.tgz"], "--mirror=/srv/a.tgz: not a URL"),
        (["weights"], "expected one name of resnet18-imagenet"),
        (["weights", "resnet51-imagenet"], "did you mean resnet50-imagenet or"),
    ],
)
def test_mistakes(words, message, server):
    with pytest.raises(UserError, match=message):
        prepare.main(["download", *words])
    assert server.requests == []


def test_the_tables_are_well_formed():
    for name, weights in PRETRAINED.items():
        assert name.startswith(f"{weights.backbone}-")
        assert weights.file.name.removesuffix(".pth").endswith(weights.file.sha256)
    files = [*(data.archive for data in PUBLISHED.values()), *(weights.file for weights in PRETRAINED.values())]
    for file in files:
        assert file.urls
        assert all(url.endswith(f"/{file.name}") for url in file.urls)
        assert len(file.md5) == 32 or len(file.sha256) >= 8
    assert len({file.name for file in files}) == len(files)
