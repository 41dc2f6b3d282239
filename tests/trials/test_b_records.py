"""Records: damage, missing shards, shards that change while they are read, names of any width."""

import io
import json
import logging
import os
import shutil
import tarfile
import threading
from pathlib import Path

import pytest
import torch

from deeplab_fast import prepare, train
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.native_loader import NativeLoader
from deeplab_fast.data.records import RecordSource
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension
from tests.trials.samples import CLASSES, small

needs_native = pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}")


def pack(samples: Path, shards: int = 3, name: str = "r") -> Path:
    """``prepare records`` of the ten training samples: the name of the set."""
    flags = [f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--num_classes={CLASSES}"]
    assert prepare.main(["records", *flags, f"--dst_path={samples}/{name}/s.tar", f"--num_shards={shards}"]) == 0
    return samples / name / "s.tar"


def shard(name: Path, number: int) -> Path:
    return name.with_name(f"s-{number:05d}.tar")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip_a_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def middle_of_an_image(path: Path) -> int:
    """A byte of the first image: its pixels change, and no decoder objects."""
    entry = json.loads(path.with_suffix(".idx").read_text())["samples"][0]
    return int(entry["image_offset"] + entry["image_size"] // 2)


def check(name: Path | str) -> int:
    return prepare.main(["check", f"--data_file={name}", f"--num_classes={CLASSES}"])


def load(kind: str, source: RecordSource, batches: int, bad: BadSamples | None = None):  # type: ignore[no-untyped-def]
    """The first batches, by the native or the reference loader."""
    dataset = TrainingSet(source, Augment(65, 0.5, 2.0, 255), CLASSES, seed=1)
    schedule = Schedule(len(source), 2, 1)
    bad = bad or BadSamples()
    if kind == "native":
        return NativeLoader(dataset, schedule, 1, torch.device("cpu"), bad).batches(0, batches)
    return ReferenceLoader(dataset, schedule, 0, bad).batches(0, batches)


LOADERS = pytest.mark.parametrize("kind", ["reference", pytest.param("native", marks=needs_native)])


# ---------------------------------------------------------------- B11


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b11_one_bit_of_a_shard_is_found_when_it_is_read(samples):
    name = pack(samples)
    flip_a_bit(shard(name, 1), middle_of_an_image(shard(name, 1)))
    source = RecordSource(name)
    with pytest.raises(UserError, match=r"s-00001\.tar, sample \d\d, image: checksum \w{8}; its index says \w{8}"):
        [source.read(i) for i in range(len(source))]


@LOADERS
@pytest.mark.fault("a file that is torn, flipped or another")
def test_b11_training_names_the_damaged_sample_or_takes_another(samples, kind, caplog):
    name = pack(samples)
    flip_a_bit(shard(name, 1), middle_of_an_image(shard(name, 1)))
    with pytest.raises(UserError, match=r"s-00001\.tar, sample \d\d, image: checksum"):
        list(load(kind, RecordSource(name), 5))
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        batches = list(load(kind, RecordSource(name), 5, BadSamples(skip=True)))
    assert "bad sample 1 of at most 100 skipped: " in caplog.text
    damaged = json.loads(shard(name, 1).with_suffix(".idx").read_text())["samples"][0]["key"]
    assert damaged not in {key for batch in batches for key in batch.keys}


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b11_check_names_damaged_shards_and_samples(samples, capsys):
    name = pack(samples)
    flip_a_bit(shard(name, 1), middle_of_an_image(shard(name, 1)))
    flip_a_bit(shard(name, 2), shard(name, 2).stat().st_size - 1)  # in the padding at the end: no sample's
    with pytest.raises(UserError, match="3 problems in 10 samples"):
        check(name)
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert ["s-00001.tar: its SHA-256" in problems[0], "s-00002.tar: its SHA-256" in problems[1]] == [True, True]
    assert "s-00001.tar, sample " in problems[2]


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("damage", ["bit", "zeroed", "truncated", "index"])
def test_b11_records_made_again_mend_the_damage(samples, caplog, damage):
    name = pack(samples)
    good = contents(name.parent)
    if damage == "bit":
        flip_a_bit(shard(name, 1), middle_of_an_image(shard(name, 1)))
    elif damage == "zeroed":
        shard(name, 1).write_bytes(bytes(shard(name, 1).stat().st_size))
    elif damage == "truncated":
        os.truncate(shard(name, 1), 4096)
    else:
        index = shard(name, 1).with_suffix(".idx")
        index.write_text(index.read_text().replace('"image_crc32": ', '"image_crc32": 1', 1))
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        pack(samples)
    assert contents(name.parent) == good
    assert "s-00001.tar: " in caplog.text
    assert "written again" in caplog.text


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="finds files' names in /proc")
def test_b11_what_is_written_is_on_the_disk_before_it_has_its_name(samples, monkeypatch):
    """Each file is synced before it is renamed, and its folder afterwards."""
    calls, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def recorded_replace(old, new):
        calls.append(("rename", Path(old).name, Path(new).name))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    pack(samples, shards=1)
    renames = {call[2]: (i, call[1]) for i, call in enumerate(calls) if call[0] == "rename"}
    assert set(renames) == {"s-00000.tar", "s-00000.idx", "dataset.json"}
    for i, partial in renames.values():
        assert ("sync", partial) in calls[:i]
        assert calls[i + 1] == ("sync", "r")


@pytest.mark.fault("killed at a file operation")
def test_b11_killed_anywhere_and_run_again_it_is_the_same(samples, tmp_path, monkeypatch):
    """At every sync and rename of a run that replaces shards: the next run gives what an undisturbed one gives."""

    class Killed(BaseException):
        pass

    small_set = samples / "three.txt"
    small_set.write_text("".join((samples / "train.txt").read_text().splitlines(keepends=True)[:3]))
    (samples / "train.txt").write_text(small_set.read_text())
    before = pack(samples, shards=2, name="before")
    shutil.copy(samples / "images/09.jpg", samples / "images/00.jpg")  # another sample: one shard is made again
    shutil.copy(samples / "labels/09.png", samples / "labels/00.png")
    expected = contents(pack(samples, shards=2, name="undisturbed").parent)
    fsync, replace = os.fsync, os.replace
    moment = 0
    while True:
        shutil.rmtree(samples / "r", ignore_errors=True)
        shutil.copytree(before.parent, samples / "r")
        left = [moment]

        def count(function, left=left):
            def counted(*args):
                if not left[0]:
                    raise Killed
                left[0] -= 1
                return function(*args)

            return counted

        monkeypatch.setattr(os, "fsync", count(fsync))
        monkeypatch.setattr(os, "replace", count(replace))
        try:
            pack(samples, shards=2)
            break
        except Killed:
            pass
        finally:
            monkeypatch.undo()
        name = pack(samples, shards=2)
        found = {n: data for n, data in contents(name.parent).items() if not n.endswith(".partial")}
        assert found == expected, moment
        moment += 1
    assert moment >= 9  # file, name and folder, of a shard, its index and the description


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b11_a_stale_index_of_a_shard_of_the_same_size_is_found(samples):
    """Another tool wrote the shard again: the same samples, the last one first."""
    name = pack(samples, shards=1)
    path = shard(name, 0)
    size = path.stat().st_size
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, data in reversed(members):
            tar.addfile(member, io.BytesIO(data))
    assert path.stat().st_size == size
    source = RecordSource(name)
    with pytest.raises(UserError, match=r"s-00000\.tar, sample .*where another tool wrote the shard, delete its \.idx"):
        [source.read(i) for i in range(10)]


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("index", [True, False])
def test_b11_a_shard_cut_off_between_two_samples_is_refused(samples, index):
    """Tar readers take the end of such a file for the end of the archive."""
    name = pack(samples, shards=1)
    second = json.loads(shard(name, 0).with_suffix(".idx").read_text())["samples"][1]
    os.truncate(shard(name, 0), second["image_offset"] - tarfile.BLOCKSIZE)
    name.with_name("dataset.json").unlink()
    if not index:
        shard(name, 0).with_suffix(".idx").unlink()
    with pytest.raises(UserError, match=r"s-00000\.tar: .*(truncated, or replaced since|cut off at byte)"):
        RecordSource(name)


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b11_a_damaged_header_of_a_shard_without_index_is_refused(samples):
    name = pack(samples, shards=1)
    fifth = json.loads(shard(name, 0).with_suffix(".idx").read_text())["samples"][4]
    for path in (shard(name, 0).with_suffix(".idx"), name.with_name("dataset.json")):
        path.unlink()
    flip_a_bit(shard(name, 0), fifth["image_offset"] - tarfile.BLOCKSIZE)
    with pytest.raises(UserError, match=r"s-00000\.tar: not a readable tar shard \(damaged at byte"):
        RecordSource(name)


def test_b11_joined_archives_and_doubled_samples_are_refused(samples, tmp_path):
    name = pack(samples, shards=2)
    joined = tmp_path / "joined.tar"
    joined.write_bytes(shard(name, 0).read_bytes() + shard(name, 1).read_bytes())
    with pytest.raises(UserError, match="holds more after the archive's end"):
        RecordSource(joined)
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for image, key in (("00.jpg", "a.jpg"), ("01.jpg", "a.jpeg")):
            tar.add(samples / "images" / image, key)
        tar.add(samples / "labels/00.png", "a.png")
    with pytest.raises(UserError, match="sample 'a' has two images"):
        RecordSource(tmp_path / "twice.tar")


def test_b11_records_without_checksums_are_read_and_said_to_be(samples, caplog):
    name = pack(samples, shards=1)
    expected = [RecordSource(name).read(i) for i in range(10)]
    shard(name, 0).with_suffix(".idx").unlink()
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        source = RecordSource(name)
    assert [source.read(i) for i in range(10)] == expected
    assert [r.getMessage().count("no checksums, so damage may go unnoticed") for r in caplog.records] == [1]
    with pytest.raises(UserError, match=r"--verify=always: .*s-00000\.tar: no checksums to verify"):
        RecordSource(name, verify="always")


def test_b11_a_shard_of_another_tool_is_not_written_over(samples):
    (samples / "r").mkdir()
    other = samples / "r" / "s-00000.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(samples / "images/00.jpg", "x.jpg")
    before = other.read_bytes()
    with pytest.raises(UserError, match=r"s-00000\.tar: is there already, and not written by prepare records"):
        pack(samples)
    assert other.read_bytes() == before


def test_b11_an_idx_of_another_tool_is_no_sign_that_its_shard_is_ours(samples):
    """DALI writes such a file beside a shard."""
    (samples / "r").mkdir()
    theirs = {samples / "r" / "s-00000.tar": b"tar", samples / "r" / "s-00000.idx": b"v1.2 1\njpg 1024 10\n"}
    for path, content in theirs.items():
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"s-00000\.tar: is there already, and not written by prepare records"):
        pack(samples)
    assert {path: path.read_bytes() for path in theirs} == theirs


# ---------------------------------------------------------------- B12


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b12_a_shard_truncated_in_mid_run_is_named_and_the_run_is_saved(samples, run_cli):
    """Training, in a process of its own, which once ended by SIGBUS."""
    name = pack(samples, shards=1)
    flags = [f"--data_file={name}", f"--train_dir={samples}/run", "--max_steps=400", "--log_steps=1"]
    finished = []
    thread = threading.Thread(target=lambda: finished.append(run_cli("train", *small(*flags), check=False)))
    thread.start()
    log = samples / "run" / "metrics.jsonl"
    while thread.is_alive() and not (log.exists() and log.read_text()):
        thread.join(0.05)
    os.truncate(shard(name, 0), 512)
    thread.join()
    (done,) = finished
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "s-00000.tar, sample " in error
    assert "the file ends before its bytes: it became shorter" in error
    assert torch.load(samples / "run" / "last.pt", weights_only=True)["step"] > 0


@LOADERS
@pytest.mark.fault("a file that is torn, flipped or another")
def test_b12_skipping_survives_a_truncated_shard(samples, kind, caplog):
    """The samples of the other shards take the places."""
    name = pack(samples, shards=5)
    lost = {entry["key"] for entry in json.loads(shard(name, 1).with_suffix(".idx").read_text())["samples"]}
    batches = load(kind, RecordSource(name), 15, BadSamples(skip=True))
    next(batches)
    os.truncate(shard(name, 1), 0)
    later = list(batches)[4:]  # some were read before
    assert {key for batch in later for key in batch.keys}.isdisjoint(lost)
    assert "the file ends before its bytes: it became shorter" in caplog.text


@LOADERS
@pytest.mark.fault("a file that is torn, flipped or another")
def test_b12_a_write_to_a_shard_without_checksums_is_noticed(samples, kind):
    """Also where it comes before the first byte is loaded: the parts were found in what was there before."""
    name = pack(samples, shards=1)
    shard(name, 0).with_suffix(".idx").unlink()
    source = RecordSource(name)
    assert len(list(load(kind, source, 2))) == 2
    os.utime(shard(name, 0), ns=(1, 1))
    with pytest.raises(UserError, match=r"s-00000\.tar, sample .*: the shard was written to while it was in use"):
        list(load(kind, source, 2))


# ---------------------------------------------------------------- B13


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_b13_a_missing_shard_is_named(samples, number):
    name = pack(samples)
    for path in (name.with_name("dataset.json"), shard(name, number), shard(name, number).with_suffix(".idx")):
        path.unlink()
    for named in (name, name.parent):
        with pytest.raises(UserError, match=rf"s-0000{number}\.tar: missing; s has 3 shards"):
            RecordSource(named)
    with pytest.raises(UserError, match=rf"s-0000{number}\.tar: missing; s has 3 shards"):
        train.main(small(f"--data_file={name}", f"--train_dir={samples}/run", "--max_steps=1"))


def test_b13_a_shard_copied_elsewhere_is_used_and_said_to_be_one_of_three(samples, tmp_path, caplog):
    name = pack(samples)
    (tmp_path / "elsewhere").mkdir()
    for suffix in (".tar", ".idx"):
        shutil.copy(shard(name, 1).with_suffix(suffix), tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        source = RecordSource(tmp_path / "elsewhere" / "s-00001.tar")
    assert len(source) == 3
    assert "1 of 3 shards of s: 3 of its 10 samples" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert len(RecordSource(f"{name.parent}/s-0000[01].tar")) == 7
    assert "2 of 3 shards of s: 7 of its 10 samples" in caplog.text


@pytest.mark.fault("a file that is torn, flipped or another")
def test_b13_shards_of_two_writings_are_not_mixed(samples, caplog):
    name = pack(samples, shards=3)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        pack(samples, shards=2)
    assert "s-00002.tar: not of this set, left over from an earlier one? It is not used" in caplog.text
    assert len(RecordSource(name)) == 10
    name.with_name("dataset.json").unlink()
    for named in (name, f"{name.parent}/s-*.tar"):
        with pytest.raises(UserError, match=r"s-00002\.tar: of s with 3 shards and 10 samples, but s-00000\.tar is of"):
            RecordSource(named)


def test_b13_a_shard_that_the_description_does_not_mean_is_refused(samples):
    """The set was written again, and one shard was copied back from the first writing."""
    name = pack(samples, shards=2)
    old = contents(name.parent)
    shutil.copy(samples / "images/00.jpg", samples / "images/01.jpg")
    pack(samples, shards=2)
    changed = [n for n, data in contents(name.parent).items() if n.endswith(".tar") and data != old[n]]
    stem = changed[0].removesuffix(".tar")
    for suffix in (".tar", ".idx"):
        (name.parent / f"{stem}{suffix}").write_bytes(old[f"{stem}{suffix}"])
    with pytest.raises(UserError, match=rf"{stem}\.tar: not the shard that dataset\.json describes"):
        RecordSource(name)
