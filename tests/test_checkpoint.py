import pytest
import torch

from deeplab_fast import checkpoint
from deeplab_fast.checkpoint import CheckpointFolder, load, save_atomically
from deeplab_fast.errors import UserError


def test_names_order_and_retention(tmp_path):
    folder = CheckpointFolder(tmp_path, "deeplab_v3_s16", keep=2)
    for epoch, step in ((1, 45), (2, 9), (10, 3)):
        folder.save({"step": step}, epoch, step)
    assert [p.name for p in folder.all()] == ["deeplab_v3_s16-2_9.pt", "deeplab_v3_s16-10_3.pt"]
    path, content = folder.newest()
    assert path.name == "deeplab_v3_s16-10_3.pt"
    assert content["step"] == 3


def test_no_checkpoint(tmp_path):
    assert CheckpointFolder(tmp_path, "m", 2).newest() is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_atomically({"x": 1}, path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(UserError, match=r"a\.pt: checkpoint could not be written \(No space left"):
        save_atomically({"x": 2}, path)
    assert load(path) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_damaged_newest_names_the_one_before(tmp_path):
    folder = CheckpointFolder(tmp_path, "m", 5)
    folder.save({}, 1, 1)
    folder.path(1, 2).write_bytes(b"x" * 100)
    with pytest.raises(UserError, match=r"m-1_2\.pt: .*move it away to continue from m-1_1\.pt"):
        folder.newest()


def test_what_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list"):
        load(tmp_path / "list.pt")
    torch.save({"model": {}}, tmp_path / "m-1_1.pt")
    with pytest.raises(UserError, match="not a checkpoint of this program"):
        CheckpointFolder(tmp_path, "m", 5).newest()
