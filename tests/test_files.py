"""Files written whole or not at all; targets checked without a trace."""

import errno
import os
from pathlib import Path

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.storage import files
from deeplab_fast.storage.files import check_file, check_folder, make_folder, parse_json, replace_file
from deeplab_fast.storage.unpack import unpack


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_new_content_takes_the_name(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with replace_file(tmp_path / "a.txt") as partial:
        partial.write_text("new")
        assert partial.suffix == ".txt"
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.fault("a disk that is full, dead or turns read-only")
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_the_old_content_stays_where_the_block_fails(error, tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write():
        with replace_file(tmp_path / "a.txt") as partial:
            partial.write_text("ne")
            raise error

    expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"a\.txt: cannot be written \(No space" if expected is UserError else None):
        write()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_went_away_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone/a\.txt: cannot be written \(No such file or directory\)"):
        with replace_file(tmp_path / "gone" / "a.txt") as partial:
            partial.write_text("new")


def test_checks_leave_nothing(tmp_path):
    check_folder(tmp_path / "a" / "b", "--report=a/b")
    check_file(tmp_path / "a" / "x.json", "--output=a/x.json")
    assert names(tmp_path) == []
    make_folder(tmp_path / "a" / "b", "--report=a/b")
    assert (tmp_path / "a" / "b").is_dir()


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link/below"):
        with pytest.raises(UserError, match=rf"^--report=x: .*{name.split('/')[0]} is not a folder$"):
            check_folder(tmp_path / name, "--report=x")
    with pytest.raises(UserError, match=r"^--output=x: is a folder; expected the file to write$"):
        check_file(tmp_path, "--output=x")
    with pytest.raises(UserError, match=r"^--output=x: cannot be written \(File name too long\)$"):
        check_file(tmp_path / ("n" * 300), "--output=x")
    with pytest.raises(UserError, match=r"^--output=x: .*file is not a folder$"):
        check_file(tmp_path / "file" / "x.onnx", "--output=x")


def test_a_folder_that_takes_no_file_is_an_error(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"^--report=x: cannot be written \(Read-only file system\)$"):
        check_folder(tmp_path, "--report=x")


def test_archives_are_not_unpacked_by_a_python_that_checks_none(tmp_path, monkeypatch):
    monkeypatch.delattr("tarfile.data_filter", raising=False)
    refused = r"a\.tar: not unpacked, as this Python checks no archive; expected Python 3\.11\.4"
    with pytest.raises(UserError, match=refused):
        unpack(tmp_path / "a.tar", "kit", tmp_path, ["list.txt"])


def test_json_that_is_nested_too_deeply_is_a_value_error():
    for text in ("[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)


def test_an_integer_in_json_is_within_a_floats_range():
    """Others are none that a float can be made of, as figures of a run are for its page."""
    most = 10**100 - 1
    assert parse_json(f'{{"a": [{most}, {-most}]}}') == {"a": [most, -most]}
    assert float(most) ** 3 < float("inf")
    for digits in (101, 400, 100_000):
        with pytest.raises(ValueError, match=f"an integer of {digits:,} digits; expected at most 100"):
            parse_json(b'{"a": [' + b"1" * digits + b"]}")


def test_json_from_outside_is_read_in_one_place():
    """Elsewhere a RecursionError would be forgotten; what is read there was written by the same call."""
    package = Path(files.__file__).parents[1]
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "json.load" in path.read_text(encoding="utf-8")
    }
    own = {"model/weights/save.py", "storage/provenance.py", "ops/conv/measurements.py"}
    assert readers == {"storage/files.py", *own}
