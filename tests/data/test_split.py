import pytest

from deeplab_fast.data.sources import folder_source
from deeplab_fast.data.split import held_out_count, write_split
from deeplab_fast.errors import UserError


@pytest.mark.parametrize(
    ("samples", "share", "count"), [(12, 0.25, 3), (4, 0.1, 1), (2, 0.9, 1), (1, 0, 0), (31, 0.25, 8)]
)
def test_held_out_count(samples, share, count):
    assert held_out_count(samples, share) == count


def test_our_own_lists_are_written_again_and_only_ours_removed(builtin, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(builtin / name)
    source = folder_source(tmp_path / "images", tmp_path / "labels")
    assert list(write_split(source, tmp_path, 0.25, 1).values()) == [23, 8]
    assert list(write_split(source, tmp_path, 0.5, 1).values()) == [15, 16]
    assert list(write_split(source, tmp_path, 0, 1).values()) == [31]
    assert not (tmp_path / "val_lst.txt").exists()
    (tmp_path / "val_lst.txt").write_text("mine\n")
    with pytest.raises(UserError, match=r"val_lst\.txt: there, with --val_share=0"):
        write_split(source, tmp_path, 0, 1)
    with pytest.raises(UserError, match="expected a folder that contains"):
        write_split(source, tmp_path / "images", 0.5, 1)


def test_nothing_is_removed_where_a_list_is_the_user_s(builtin, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(builtin / name)
    source = folder_source(tmp_path / "images", tmp_path / "labels")
    write_split(source, tmp_path, 0.25, 1)
    (tmp_path / "train_lst.txt").write_text("mine\n")
    with pytest.raises(UserError, match=r"train_lst\.txt: this program did not write"):
        write_split(source, tmp_path, 0, 1)
    assert (tmp_path / "val_lst.txt").exists()


def test_a_name_that_is_no_text_is_refused(tmp_path):
    for name, suffix in (("images", ".jpg"), ("labels", ".png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"a\udcff{suffix}").write_bytes(b"")  # a byte that is not UTF-8
    with pytest.raises(UserError, match="is not UTF-8; expected one that records and logs can hold"):
        folder_source(tmp_path / "images", tmp_path / "labels")
