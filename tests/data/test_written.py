"""Files that this program wrote are known as ours, wherever it ended; all others are not."""

import json

import pytest

from deeplab_fast.data.written import FORMAT, MANIFEST, Written, digest, write_texts


def written_again(root):
    """Read what another program finds."""
    return Written(root)


def test_what_was_written_is_ours_until_somebody_changes_it(tmp_path):
    path = tmp_path / "a/b.png"
    path.parent.mkdir()
    written = Written(tmp_path)
    assert written.source(path) is None
    written.write(path, b"label", "of this")
    assert path.read_bytes() == b"label"
    for found in (written, written_again(tmp_path)):
        assert found.is_ours(path)
        assert found.source(path) == "of this"
    path.write_bytes(b"mine")
    assert not written_again(tmp_path).is_ours(path)
    path.unlink()
    assert not written_again(tmp_path).is_ours(path)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_program_that_ends_before_or_after_a_file_has_its_content(tmp_path, is_there):
    path = tmp_path / "x"
    Written(tmp_path).write(path, b"old", "old source")
    Written(tmp_path).note(path, b"new", "new source")
    if is_there:
        path.write_bytes(b"new")
    found = written_again(tmp_path)
    assert found.source(path) == ("new source" if is_there else "old source")
    found.save()
    assert written_again(tmp_path).is_ours(path)
    assert len((tmp_path / MANIFEST).read_text().splitlines()) == 2, "the note that does not hold is gone"


def test_notes_are_the_same_whatever_order_they_were_made_in(tmp_path):
    contents = []
    for order in (("x", "y", "z"), ("z", "x", "y", "x")):
        root = tmp_path / "".join(order)
        root.mkdir()
        written = Written(root)
        for name in order:
            written.write(root / name, name.encode())
        written.save()
        contents.append((root / MANIFEST).read_bytes())
    assert contents[0] == contents[1]


def test_notes_that_hold_are_not_written_again(tmp_path):
    texts = {"a.txt": "one\n", "b.txt": "two\n"}
    write_texts(Written(tmp_path), texts)
    (tmp_path / MANIFEST).chmod(0o400)
    before = (tmp_path / MANIFEST).stat()
    write_texts(Written(tmp_path), texts)
    after = (tmp_path / MANIFEST).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_line_cut_short_is_passed_over_and_the_next_is_read(tmp_path):
    written = Written(tmp_path)
    for name in "xy":
        written.write(tmp_path / name, name.encode())
    notes = tmp_path / MANIFEST
    notes.write_bytes(notes.read_bytes()[:-9])
    found = written_again(tmp_path)
    assert [found.is_ours(tmp_path / name) for name in "xy"] == [True, False]
    found.write(tmp_path / "z", b"z")
    found = written_again(tmp_path)
    assert [found.is_ours(tmp_path / name) for name in "xyz"] == [True, False, True]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "another/1"}', b"\xff", b"[" * 9000])
def test_a_file_of_another_kind_holds_no_notes(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    (tmp_path / "x").write_bytes(b"mine")
    found = Written(tmp_path)
    assert not found.is_ours(tmp_path / "x")
    found.write(tmp_path / "y", b"ours")
    assert written_again(tmp_path).is_ours(tmp_path / "y")


def test_notes_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "x").write_bytes(b"label")
    former = {"format": "deeplab_fast.lists/1", "files": {"x": [digest(b"label"), "of this"]}}
    (tmp_path / MANIFEST).write_text(json.dumps(former, indent=0))
    found = Written(tmp_path)
    assert found.source(tmp_path / "x") == "of this"
    found.save()
    assert json.loads((tmp_path / MANIFEST).read_text().splitlines()[0]) == {"format": FORMAT}
    assert written_again(tmp_path).source(tmp_path / "x") == "of this"
