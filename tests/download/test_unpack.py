"""Archives unpacked whole or not at all."""

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.storage import unpack as module
from deeplab_fast.storage.unpack import unpack
from tests.fuzz.targets.records import with_size

pytestmark = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python 3.11.4 checks archives")

FILES = {"kit/y12/list.txt": b"a\n", "kit/y12/images/a é.jpg": b"picture" * 50, "kit/README": b"read"}
HOLDS = ("list.txt", "images")
REPO = Path(__file__).parents[2]


def pack(path, files=FILES, mode="w", extra=()):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return path


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_all_of_a_new_folder_comes(mode, tmp_path):
    unpack(pack(tmp_path / "a.tar", mode=mode), "kit/y12", tmp_path, HOLDS)
    assert names(tmp_path) == ["a.tar", *sorted(FILES)]
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES


def test_what_is_beside_it_is_kept(tmp_path):
    (tmp_path / "kit/y07").mkdir(parents=True)
    (tmp_path / "kit/README").write_text("mine")
    unpack(pack(tmp_path / "a.tar"), "kit/y12", tmp_path, HOLDS)
    assert (tmp_path / "kit/README").read_text() == "mine"
    assert (tmp_path / "kit/y07").is_dir()
    assert (tmp_path / "kit/y12/list.txt").is_file()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "kit/y12").mkdir(parents=True)
    unpack(pack(tmp_path / "a.tar"), "kit/y12", tmp_path, HOLDS)
    assert names(tmp_path) == ["a.tar"]


def a_link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        tarfile.TarInfo("../../outside"),
        a_link("kit/y12/link", "/etc/passwd"),
        a_link("kit/y12/link", "../../../outside", tarfile.LNKTYPE),
        a_link("kit/y12/device", "", tarfile.CHRTYPE),
    ],
    ids=lambda member: member.name,
)
def test_what_leaves_the_folder_is_refused(member, tmp_path):
    root = tmp_path / "deep/root"
    root.mkdir(parents=True)
    archive = pack(root / "a.tar", extra=[member])
    with pytest.raises(UserError, match=r"a\.tar: unsafe \(.*\); nothing of it was kept"):
        unpack(archive, "kit/y12", root, HOLDS)
    assert names(tmp_path) == ["deep/root/a.tar"]
    assert list(root.iterdir()) == [archive]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize(
    ("mode", "spoil", "message"),
    [
        ("w:gz", cut, "damaged"),
        ("w", lambda path: path.write_bytes(path.read_bytes()[:700]), "damaged"),
        ("w", lambda path: path.write_bytes(b""), "damaged"),
        ("w", lambda path: path.write_bytes(with_size(path.read_bytes(), 0, -512)), "damaged"),
        ("w", lambda path: path.write_bytes(b"<html>not found</html>" * 99), "damaged"),
        ("w", lambda path: pack(path, {"kit/y12/images/a.jpg": b""}), "holds no kit/y12/list.txt; expected"),
    ],
)
def test_a_bad_archive_leaves_nothing(mode, spoil, message, tmp_path):
    archive = pack(tmp_path / "a.tar", mode=mode)
    spoil(archive)
    with pytest.raises(UserError, match=message) as caught:
        unpack(archive, "kit/y12", tmp_path, HOLDS)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(("mode", "least"), [("w", 10240), ("w:gz", 10240)])
def test_room_is_looked_for_first(mode, least, tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar", mode=mode)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("U", (), {"free": 900}))
    with pytest.raises(UserError, match=f"900 bytes are free; expected at least {least:,} to unpack a.tar"):
        unpack(archive, "kit/y12", tmp_path, HOLDS)
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a_disk_that_fills_leaves_nothing(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar")

    def fill(*args, **options):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tarfile.TarFile, "makefile", fill)
    with pytest.raises(UserError, match=r"kit/y12: cannot be unpacked from a\.tar \(No space left on device\)"):
        unpack(archive, "kit/y12", tmp_path, HOLDS)
    assert list(tmp_path.iterdir()) == [archive]


SLOWLY = """
import sys, tarfile, time
from pathlib import Path
from deeplab_fast.storage.unpack import unpack
whole = tarfile.TarFile.extract
def slowly(self, *args, **options):
    whole(self, *args, **options)
    time.sleep(float(sys.argv[2]))
tarfile.TarFile.extract = slowly
root = Path(sys.argv[1])
unpack(root / "a.tar", "kit/y12", root, ("list.txt", "images"))
"""


def start(root, pause_s):
    return subprocess.Popen([sys.executable, "-c", SLOWLY, str(root), str(pause_s)], cwd=REPO)


def wait_until_begun(root):
    limit = time.monotonic() + 120
    while not list(root.glob(".unpacking-*/kit/y12/list.txt")):
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.fault("killed at a file operation")
def test_what_a_killed_process_left_is_removed(tmp_path):
    pack(tmp_path / "a.tar")
    process = start(tmp_path, 300)
    wait_until_begun(tmp_path)
    process.kill()
    process.wait()
    assert not (tmp_path / "kit").exists()
    unpack(tmp_path / "a.tar", "kit/y12", tmp_path, HOLDS)
    assert names(tmp_path) == ["a.tar", *sorted(FILES)]


@pytest.mark.fault("two programs in one folder")
def test_of_two_processes_one_unpacks(tmp_path):
    pack(tmp_path / "a.tar")
    process = start(tmp_path, 0.3)
    wait_until_begun(tmp_path)
    unpack(tmp_path / "a.tar", "kit/y12", tmp_path, HOLDS)
    assert (tmp_path / "kit/y12/images/a é.jpg").is_file()
    assert process.wait(20) == 0
    assert names(tmp_path) == ["a.tar", *sorted(FILES)]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_an_archive_cut_short_is_refused_whatever_packed_it(mode, tmp_path):
    whole = pack(tmp_path / "a.tar", {**FILES, "kit/y12/noise": os.urandom(1 << 16)}, mode).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.tar") as refusal:
        unpack(tmp_path / "a.tar", "kit/y12", tmp_path, HOLDS)
    assert "\n" not in str(refusal.value)
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(tmp_path):
    """A few bytes of an archive can name any size."""
    member = tarfile.TarInfo("kit/y12/images")
    member.type, member.size = tarfile.REGTYPE, 1 << 60
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UserError, match=r"bytes are free; expected at least 1,152,921,504,606,846,976 to unpack"):
        unpack(tmp_path / "a.tar", "kit/y12", tmp_path, HOLDS)
    assert os.listdir(tmp_path) == ["a.tar"]
