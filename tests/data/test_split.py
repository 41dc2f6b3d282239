"""Splits of one's own data: drawn by samples and by groups, given, and written beside or apart from the data."""

import itertools
import json
import os

import pytest

from deeplab_fast.data.groups import group_names
from deeplab_fast.data.held_out import choose_sizes, draw_parts, held_out_count
from deeplab_fast.data.lists import read_list
from deeplab_fast.data.philox import SHUFFLE, permutation
from deeplab_fast.data.sources import folder_source, list_source, names_below
from deeplab_fast.data.split import SPLIT_FILE, draw_split, given_split, write_split
from deeplab_fast.errors import UserError


@pytest.mark.parametrize(
    ("samples", "share", "count"), [(12, 0.25, 3), (4, 0.1, 1), (2, 0.9, 1), (1, 0, 0), (31, 0.25, 8)]
)
def test_held_out_count(samples, share, count):
    assert held_out_count(samples, share) == count


@pytest.fixture
def make(tmp_path):
    """Make empty samples below ``images`` and ``labels``, and return their source."""

    def samples(*names):
        for name in names:
            for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
                path = tmp_path / kind / f"{name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return folder_source(tmp_path / "images", tmp_path / "labels")

    return samples


def drawn(source, root, val_share, seed, **options):
    names = names_below(source, root / "images")
    return list(write_split(source, draw_split(names, val_share, seed, **options), root).values())


def split_by(source, files, root, **options):
    """The names of each given split's samples, and what was read."""
    names = names_below(source, root / "images")
    split, read = given_split([str(file) for file in files], source, root / "images", names, **options)
    return {part: [names[i] for i in samples] for part, samples in split.parts.items()}, read


# ---------------------------------------------------------------- written


def test_our_own_lists_are_written_again_and_only_ours_removed(builtin, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(builtin / name)
    source = folder_source(tmp_path / "images", tmp_path / "labels")
    assert drawn(source, tmp_path, 0.25, 1) == [23, 8]
    assert drawn(source, tmp_path, 0.5, 1) == [15, 16]
    assert drawn(source, tmp_path, 0.25, 1, test_share=0.5) == [7, 8, 16]
    assert drawn(source, tmp_path, 0, 1) == [31]
    assert not (tmp_path / "val_lst.txt").exists()
    assert not (tmp_path / "test_lst.txt").exists()
    for name in ("val", "test"):
        (tmp_path / f"{name}_lst.txt").write_text("mine\n")
    with pytest.raises(UserError, match=r"val_lst\.txt: there, with --val_share=0"):
        drawn(source, tmp_path, 0, 1)
    (tmp_path / "val_lst.txt").unlink()
    assert drawn(source, tmp_path, 0, 1) == [31]
    assert (tmp_path / "test_lst.txt").read_text() == "mine\n"  # nobody asked for one
    with pytest.raises(UserError, match="expected a folder that contains"):
        write_split(source, draw_split(names_below(source, tmp_path / "images"), 0.5, 1), tmp_path / "images")


def test_nothing_is_removed_where_a_list_is_the_user_s(builtin, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(builtin / name)
    source = folder_source(tmp_path / "images", tmp_path / "labels")
    drawn(source, tmp_path, 0.25, 1)
    (tmp_path / "train_lst.txt").write_text("mine\n")
    with pytest.raises(UserError, match=r"train_lst\.txt: this program did not write"):
        drawn(source, tmp_path, 0, 1)
    assert (tmp_path / "val_lst.txt").exists()


def test_a_name_that_is_no_text_is_refused(tmp_path):
    for name, suffix in (("images", ".jpg"), ("labels", ".png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"a\udcff{suffix}").write_bytes(b"")  # a byte that is not UTF-8
    with pytest.raises(UserError, match="is not UTF-8; expected one that records and logs can hold"):
        folder_source(tmp_path / "images", tmp_path / "labels")


def state(folder):
    """Every file below a folder with its size and time, and every folder with its time."""
    return {path: (os.lstat(path).st_size, os.lstat(path).st_mtime_ns) for path in (folder, *folder.rglob("*"))}


def test_lists_written_elsewhere_leave_the_data_as_it_is(make, tmp_path_factory, tmp_path):
    source = make("a b/ä 1", "a b/2", "c/3")
    output = tmp_path_factory.mktemp("elsewhere") / "new" / "lists"
    before = state(tmp_path)
    split = draw_split(names_below(source, tmp_path / "images"), 0.34, 1)
    assert list(write_split(source, split, tmp_path, output).values()) == [2, 1]
    assert state(tmp_path) == before
    written = (
        list_source(tmp_path, output / "train_lst.txt").images + list_source(tmp_path, output / "val_lst.txt").images
    )
    assert sorted(written) == ["images/a b/2.jpg", "images/a b/ä 1.jpg", "images/c/3.jpg"]
    there = state(output)
    write_split(source, split, tmp_path, output)
    assert state(output) == there  # nothing is written again


def test_what_is_beside_the_lists_repeats_them(make, tmp_path):
    source = make(*(f"clip{i % 5}/{i}" for i in range(20)))
    names = names_below(source, tmp_path / "images")
    write_split(source, draw_split(names, 0.2, 7, 0.4, "folder"), tmp_path, label_dir="labels", label_suffix="")
    content = json.loads((tmp_path / SPLIT_FILE).read_text())
    made = content["made"]
    assert made.pop("groups") == {"train": 2, "val": 1, "test": 2}
    assert made.pop("label_dir") == "labels"
    assert content["samples"] == {"train": 8, "val": 4, "test": 8, "in no list": 0}
    lists = {name: (tmp_path / name).read_text() for name in content["sha256"]}
    assert len(lists) == 3
    for name in lists:
        (tmp_path / name).unlink()
    write_split(source, draw_split(names, **made), tmp_path)
    assert {name: (tmp_path / name).read_text() for name in lists} == lists


# ---------------------------------------------------------------- drawn by groups


@pytest.mark.parametrize(
    ("sizes", "wanted", "most", "expected"),
    [
        ([5, 3, 4], 3, 11, [1]),  # the first that fits is exact
        ([2, 5, 4], 5, 10, [1]),  # what comes first would spoil it
        ([2, 2, 4], 7, 6, [0, 2]),
        ([9, 8, 10], 2, 18, [1]),  # the least that is at all
        ([3, 5], 4, 7, [0]),  # the lower of two as near
        ([6, 9, 20], 16, 26, [0, 1]),
        ([1, 1, 1, 1], 2, 3, [0, 1]),
    ],
)
def test_sizes_are_chosen_as_near_as_can_be(sizes, wanted, most, expected):
    assert choose_sizes(sizes, wanted, most) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_choice_of_groups_is_nearer(seed):
    sizes = [1 + (seed * 7 + i * i * 5) % 11 for i in range(7)]
    for wanted in range(1, sum(sizes)):
        most = sum(sizes) - min(sizes)
        chosen = choose_sizes(sizes, wanted, most)
        assert len(set(chosen)) == len(chosen) > 0
        subsets = (c for n in range(1, 8) for c in itertools.combinations(sizes, n) if sum(c) <= most)
        assert abs(sum(sizes[i] for i in chosen) - wanted) == min(abs(sum(c) - wanted) for c in subsets)


def test_groups_stay_whole_and_the_seed_decides():
    names = [f"video{i % 9}/{i:03}.jpg" for i in range(100)]
    found = set()
    for seed in range(5):
        split = draw_split(names, 0.2, seed, 0.1, "folder")
        groups = [{names[i].split("/")[0] for i in part} for part in split.parts.values()]
        assert sum(map(len, groups)) == 9 == len(set.union(*groups))
        assert sorted(i for part in split.parts.values() for i in part) == list(range(100))
        assert abs(len(split.parts["val"]) - 20) <= 3
        assert split.parts == draw_split(names, 0.2, seed, 0.1, "folder").parts
        found.add(tuple(split.parts["val"]))
    assert len(found) > 1


def test_samples_without_groups_are_drawn_as_ever():
    """A seed gives the lists that it gave before there were groups."""
    names = [f"{i}.jpg" for i in range(50)]
    assert draw_split(names, 0.2, 4).parts["val"] == sorted(permutation(4, 0, 50, SHUFFLE)[:10].tolist())


def test_the_order_of_the_samples_does_not_decide():
    names = [f"{i % 9}/{i:03}.jpg" for i in range(100)]
    forth, back = draw_split(names, 0.2, 3, 0, "folder"), draw_split(names[::-1], 0.2, 3, 0, "folder")
    assert {names[i] for i in forth.parts["val"]} == {names[::-1][i] for i in back.parts["val"]}


def test_each_list_gets_a_group():
    train, (val, test) = draw_parts(["a", "b", *["c"] * 10], {"val_share": 0.17, "test_share": 0.1}, 1)
    assert len(val) == len(test) == 1
    assert len(train) == 10
    with pytest.raises(UserError, match=r"--val_share=0\.2: 1 group of 2 samples; expected at least 2 groups"):
        draw_split(["x/1.jpg", "x/2.jpg"], 0.2, 1, group_by="folder")
    with pytest.raises(UserError, match=r"--val_share=0\.2 and --test_share=0\.1: 2 samples; expected at least 3"):
        draw_split(["1.jpg", "2.jpg"], 0.2, 1, 0.1)


def test_groups_are_found_by_expression():
    names = ["p01/s3_a.jpg", "p01/s4_b.jpg", "q/s3_c.jpg"]
    assert group_names(names, r"s\d") == ["s3", "s4", "s3"]
    assert group_names(names, r"(\w+)/s(\d)") == ["p01", "p01", "q"]
    assert group_names(["a.jpg", "b/c.jpg"], "folder") == [".", "b"]
    with pytest.raises(UserError, match=r"finds no group in 1 of 3 names: q/s3_c\.jpg"):
        group_names(names, r"p\d+")
    with pytest.raises(UserError, match=r"finds no group in 2 of 3 names"):
        group_names(names, r"(q)?")  # it matches, but what it is to find is not there
    with pytest.raises(UserError, match="no regular expression"):
        group_names(names, "(")


# ---------------------------------------------------------------- given


LINES = [
    "b\r\n\r\na\r\n",  # from Windows
    "\ufeffb.jpg\na.jpg\n",  # a byte order mark
    "images/b.jpg\nimages/a.jpg",  # no end
    "./b.JPG\n  images\\a \n",
    "images/b.jpg labels/b.png\na\ta.png\n",
    "b\nb\na\nb.jpg\n",
]


@pytest.mark.parametrize("text", LINES)
def test_given_names_become_lists(make, tmp_path, text):
    source = make("a", "b", "c")
    (tmp_path / "t.txt").write_text(text, newline="", encoding="utf-8")
    (tmp_path / "v.txt").write_text(str(tmp_path / "images" / "c.jpg"))
    parts, read = split_by(source, [tmp_path / "t.txt", tmp_path / "v.txt"], tmp_path)
    assert parts == {"train": ["b.jpg", "a.jpg"], "val": ["c.jpg"]}
    assert read[0].repeated == (2 if text.startswith("b\nb") else 0)


def test_names_with_spaces_and_in_folders(make, tmp_path):
    source = make("x y/ü 1", "x y/2", "z/2", "2")
    (tmp_path / "t.txt").write_text("ü 1\nx y/2\nz/2\t2.png\n2\n", encoding="utf-8")
    parts, _ = split_by(source, [tmp_path / "t.txt"], tmp_path)
    assert parts["train"] == ["x y/ü 1.jpg", "x y/2.jpg", "z/2.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ("a\nnone\nnor\n", "c", r"t\.txt: 2 of 3 names no sample of --image_dir: none \(line 2\), nor \(line 3\)"),
        ("a\nb\n", "b\nc\n", r"v\.txt: b\.jpg is in .*t\.txt too; expected no sample in two splits"),
        ("a\nb\nc", "b\nd/c\na", r"v\.txt: b\.jpg is in .*t\.txt too, as are 1 others: a\.jpg"),
        ("a\n", "\n \n", r"v\.txt: empty; expected the names"),
        ("a b.png\n", "c", r"t\.txt, line 1: b\.png is not the label found for a"),
        ("e\n", "c", r"t\.txt, line 1: 'e' is the name of 2 images; expected their paths below --image_dir"),
    ],
)
def test_given_splits_that_cannot_be_right(make, tmp_path, train, val, words):
    source = make("a", "b", "c", "d/c", "d/e", "f/e")
    (tmp_path / "t.txt").write_text(train)
    (tmp_path / "v.txt").write_text(val)
    with pytest.raises(UserError, match=words):
        split_by(source, [tmp_path / "t.txt", tmp_path / "v.txt"], tmp_path)


def test_a_given_split_that_divides_a_group_is_refused(make, tmp_path):
    source = make("p1/a", "p1/b", "p2/a")
    for name, text in (("t", "p1/a\n"), ("v", "p1/b\np2/a"), ("w", "p2/a")):
        (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(UserError, match="--group_by=folder: 1 group has samples in two lists: 'p1' in train and val"):
        split_by(source, [tmp_path / "t.txt", tmp_path / "v.txt"], tmp_path, group_by="folder")
    split_by(source, [tmp_path / "t.txt", tmp_path / "w.txt"], tmp_path, group_by="folder")


def test_a_split_of_one_list_removes_the_others(make, tmp_path):
    source = make("a", "b", "c")
    names = names_below(source, tmp_path / "images")
    drawn(source, tmp_path, 0.4, 1)
    (tmp_path / "all.txt").write_text("a\nb\nc\n")
    split, _ = given_split([str(tmp_path / "all.txt")], source, tmp_path / "images", names)
    write_split(source, split, tmp_path)
    assert not (tmp_path / "val_lst.txt").exists()
    assert read_list(tmp_path / "train_lst.txt")[0] == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
