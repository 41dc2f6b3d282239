import pytest

from deeplab_fast.data.sources import folder_source, list_source, read_list, unique_keys
from deeplab_fast.errors import UserError


def test_folders(builtin):
    source = folder_source(builtin / "images", builtin / "labels")
    assert len(source) == 31
    assert source.read(3).image == (builtin / "images" / "00003.jpg").read_bytes()


def test_folder_without_a_label(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.jpg: no label; expected .*b/x\.png"):
        folder_source(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UserError, match="no image"):
        folder_source(tmp_path / "b", tmp_path / "a")
    with pytest.raises(UserError, match="no such folder"):
        folder_source(tmp_path / "c", tmp_path / "a")


def test_keys():
    assert unique_keys(["x/a.b.jpg", "y/c.jpg"]) == ["a_b", "c"]
    assert unique_keys(["x/a.jpg", "y/a.jpg"]) == ["x/a", "y/a"]
    assert unique_keys(["x/a.jpg", "x/a.png", "x/a_2.jpg"]) == ["x/a", "x/a_2", "x/a_2_2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.jpg a.png\nb.jpg\n", r"line 2: 1 field; expected two, 'IMAGE LABEL'"),
        ("a.jpg b.png c.png\n", "line 1: 3 fields"),
        ("\n\n", "empty"),
    ],
)
def test_bad_lists(text, words, tmp_path):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        read_list(tmp_path / "l.txt")


def test_missing_list_root_and_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        list_source(tmp_path, tmp_path / "none.txt")
    (tmp_path / "l.txt").write_text("a.jpg a.png\n")
    with pytest.raises(UserError, match="no such folder"):
        list_source(tmp_path / "none", tmp_path / "l.txt")
    with pytest.raises(UserError, match=r"a\.jpg does not exist"):
        list_source(tmp_path, tmp_path / "l.txt")
    source = list_source(tmp_path, tmp_path / "l.txt", must_exist=False)
    with pytest.raises(UserError, match=r"a\.jpg: No such file"):
        source.read(0)


def test_keys_that_collide_take_the_smallest_number_free():
    paths = ["x/a.jpg", "x/a_2.jpg", "x/a.png", "x/a.jpeg", "x/a_2.png"]
    assert unique_keys(paths) == ["x/a", "x/a_2", "x/a_3", "x/a_4", "x/a_2_2"]
