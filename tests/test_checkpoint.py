import logging
import random
import shutil

import pytest
import torch

from deeplab_fast.errors import UserError
from deeplab_fast.storage import seal
from deeplab_fast.storage.checkpoint import FORMAT, LAST, CheckpointFolder, UnreadableFile, load, save_atomically

MODEL = "deeplab_v3_s16"


def content(step, epoch=1, run="mine"):
    """What a checkpoint must hold, and nothing of use."""
    empty = {key: {} for key in ("model", "optimiser", "scaler", "rng", "config")}
    numbers = {"step": step, "epoch": epoch, "evaluated": 0, "world_size": 1, "total_steps": 9, "best_miou": -1.0}
    return {**empty, **numbers, "average": None, "data": "", "run": run}


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_names_order_and_retention(tmp_path):
    folder = CheckpointFolder(tmp_path, MODEL, keep=2)
    for epoch, step in ((1, 45), (2, 9), (10, 3)):
        folder.save(content(100 * epoch + step, epoch), step)
    assert [p.name for p in folder.all()] == [f"{MODEL}-2_9.pt", f"{MODEL}-10_3.pt"]
    found = folder.newest()
    assert found.path.name == f"{MODEL}-10_3.pt"
    assert found.content["step"] == 1003
    assert found.damaged == []


def test_last_takes_its_place_among_the_numbered(tmp_path):
    folder = CheckpointFolder(tmp_path, MODEL, keep=9)
    folder.save_last(content(0), 0)
    assert folder.newest().path.name == LAST
    folder.save(content(4), 4)
    assert folder.newest().path.name == f"{MODEL}-1_4.pt"
    folder.save_last(content(6), 6)
    folder.save(content(10, epoch=2), 4)
    assert [p.name for p in folder.newest_first()] == [f"{MODEL}-2_4.pt", LAST, f"{MODEL}-1_4.pt"]
    folder.tidy("another run")
    assert LAST in names(tmp_path)
    folder.tidy("mine")
    assert LAST not in names(tmp_path)


def test_no_checkpoint(tmp_path):
    assert CheckpointFolder(tmp_path, MODEL, 2).newest() is None


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_atomically({"x": 1}, path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deeplab_fast.storage.files.os.fsync", fail)
    with pytest.raises(UserError, match=r"a\.pt: cannot be written \(No space left"):
        save_atomically({"x": 2}, path)
    assert load(path) == {"x": 1}
    assert names(tmp_path) == ["a.pt"]


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a_write_that_fails_within_torch_gives_the_systems_reason(tmp_path, monkeypatch):
    """torch.save itself says 'unexpected pos 64 vs 0'."""

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, data):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    with pytest.raises(OSError, match="No space left"), (tmp_path / "x").open("wb") as file:
        seal.write({"x": torch.zeros(1000)}, Full(file), {})


def test_the_seal_is_read_alone_and_bound_to_every_byte(tmp_path):
    path = tmp_path / "a.pt"
    save_atomically({"x": torch.arange(5000)}, path, {"step": 7})
    assert seal.read(path).facts == {"step": 7}
    assert torch.equal(torch.load(path, weights_only=True, mmap=True)["x"], torch.arange(5000))
    bits, rng = 8 * path.stat().st_size, random.Random(0)
    seal_s = [8 * byte + rng.randrange(8) for byte in range(bits // 8 - 130, bits // 8)]  # it is at the end
    for bit in [*rng.sample(range(bits), 200), *seal_s]:
        flip(path, bit)
        with pytest.raises(seal.Damaged):
            seal.check(path, must_be_sealed=True)
        flip(path, bit)
    seal.check(path, must_be_sealed=True)


@pytest.mark.fault("a file that is torn, flipped or another")
@pytest.mark.parametrize("cut", [1, 22, 100, 4000])
def test_a_sealed_file_cut_short(cut, tmp_path):
    path = tmp_path / "a.pt"
    save_atomically({"format": FORMAT, "x": torch.arange(5000)}, path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UnreadableFile, match=r"a\.pt: (damaged|not a checkpoint)"):
        load(path)


def test_a_foreign_file_has_the_checksums_of_its_parts_checked(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"w": torch.arange(5000)}, path)
    assert torch.equal(load(path)["w"], torch.arange(5000))
    flip(path, 8 * (path.stat().st_size // 2))
    with pytest.raises(UnreadableFile, match=r"resnet\.pth: damaged \(the checksum of its part .* does not match\)"):
        load(path)
    torch.save({"w": torch.arange(5)}, path, _use_new_zipfile_serialization=False)  # has none
    assert load(path)["w"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.fault("a file that is torn, flipped or another")
def test_a_damaged_newest_is_named_and_the_one_before_taken(tmp_path):
    folder = CheckpointFolder(tmp_path, MODEL, 5)
    folder.save(content(1), 1)
    newest = folder.save(content(2), 2)
    flip(newest, 4000)
    found = folder.newest()
    assert found.path.name == f"{MODEL}-1_1.pt"
    ((reason, step),) = found.damaged
    assert reason == f"{newest}: damaged (its bytes do not match its digest)"
    assert step == 2
    flip(found.path, 4000)
    with pytest.raises(UnreadableFile, match=r"s16-1_2\.pt: damaged .*neither can the 1 before it.*--resume=False"):
        folder.newest()


def test_copies_of_the_users_are_neither_counted_nor_removed(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path, MODEL, keep=1)
    first = folder.save(content(1), 1)
    kept = [f"{MODEL}-before-lr-change-1_1.pt", f"{MODEL}-copy-9_9.pt", f"{MODEL}-9_9.pt", f"{MODEL}-01_1.pt"]
    for name in kept:
        shutil.copy(first, tmp_path / name)
    folder.save(content(5, run="another"), 5)
    folder.save(content(2), 2)
    assert [p.name for p in folder.all()] == [f"{MODEL}-1_2.pt", f"{MODEL}-1_5.pt"]
    assert set(kept) <= set(names(tmp_path))
    assert folder.newest().path.name == f"{MODEL}-1_5.pt"
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        folder.save(content(99, epoch=9), 9)
    assert f"{MODEL}-9_9.pt is a copy of another checkpoint; it is now {MODEL}-9_9.pt.kept" in caplog.text
    shutil.copy(tmp_path / kept[0], tmp_path / f"{MODEL}-8_8.pt")
    (tmp_path / f"{MODEL}-8_8.pt.kept").write_text("kept before")
    folder.save(content(88, epoch=8), 8)
    assert (tmp_path / f"{MODEL}-8_8.pt.kept").read_text() == "kept before"
    assert f"{MODEL}-8_8.pt.kept-2" in names(tmp_path)


def test_what_was_just_written_is_not_the_oldest(tmp_path):
    """The newest is damaged, and the run goes on from one before it with checkpoints in between."""
    folder = CheckpointFolder(tmp_path, MODEL, keep=1)
    flip(folder.save(content(6), 6), 4000)
    written = folder.save(content(5), 5)
    assert folder.newest().path == written


def test_last_stays_where_no_numbered_one_has_come_as_far(tmp_path):
    folder = CheckpointFolder(tmp_path, MODEL, keep=9)
    folder.save(content(3), 3)
    folder.save_last(content(5), 5)
    folder.tidy("mine")
    assert folder.newest().content["step"] == 5
    folder.save(content(7), 7)
    folder.tidy("mine")
    assert LAST not in names(tmp_path)


def test_a_checkpoint_from_before_there_were_digests(tmp_path):
    old = {**content(3), "format": "deeplab_fast.checkpoint/1", "log_positions": {}}
    torch.save(old, tmp_path / f"{MODEL}-1_3.pt")
    assert CheckpointFolder(tmp_path, MODEL, 5).newest().content["step"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": None}, "not a checkpoint of this program"),
        ({"optimiser": None}, "has no 'optimiser'"),
        ({"step": "3"}, "'step' is of type str"),
        ({"config": [1]}, "'config' is of type list"),
    ],
)
def test_what_is_no_checkpoint(change, words, tmp_path):
    damaged = {k: v for k, v in ({**content(1), "format": FORMAT} | change).items() if v is not None or k == "average"}
    save_atomically(damaged, tmp_path / f"{MODEL}-1_1.pt", {"epoch": 1, "step_in_epoch": 1})
    with pytest.raises(UserError, match=words):
        CheckpointFolder(tmp_path, MODEL, 5).newest()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list"):
        load(tmp_path / "list.pt")


@pytest.mark.parametrize("facts", [b"[" * 30_000, b'{"epoch": "1", "step": null, "step_in_epoch": [1]}'])
def test_a_seal_of_another_kind_does_not_stop_a_run(facts, tmp_path):
    """Whatever the comment of a zip file says, the folder's other checkpoints are found."""
    folder = CheckpointFolder(tmp_path, "deeplab_v3_s16", keep=2)
    whole = folder.save(content(3), 3)
    odd = tmp_path / "deeplab_v3_s16-1_4.pt"
    comment = b"deeplab_fast.seal/1 " + facts + b" sha256=" + b"0" * 64
    bare = whole.read_bytes()
    end = bare.rindex(b"PK\5\6") + 20
    odd.write_bytes(bare[:end] + len(comment).to_bytes(2, "little") + comment)
    shutil.copy(odd, tmp_path / LAST)
    found = folder.newest()
    assert found is not None
    assert found.path == whole
    assert len(found.damaged) == 2
    folder.tidy("mine")
    assert whole.exists()
