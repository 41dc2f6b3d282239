"""A file that was damaged is mended or named by the program that reads it; no other result is given without a word."""

import json
import random
import shutil

import pytest

from deeplab_fast.data.written import MANIFEST
from tests.faults.plugin import Lost
from tests.faults.same import assert_same_files, assert_same_run, require
from tests.faults.subjects import NAME, ON_CPU

pytestmark = pytest.mark.fault("a file that is torn, flipped or another")


def mutations(content, seed):
    """Damaged contents by name."""
    rng = random.Random(seed)
    size = len(content)
    last = len(content.rstrip(b"\n")) - 1  # a text without its last line's end is that text
    cuts = {f"cut at {at}": content[:at] for at in sorted({1, size // 2, last})}
    flips = {}
    for bit in rng.sample(range(8 * size), min(4, 8 * size)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        flips[f"bit {bit} flipped"] = bytes(flipped)
    middle = size // 2
    zeros = {"NULs in the middle": content[:middle] + b"\0" * min(64, size - middle) + content[middle + 64 :]}
    return {**flips, **cuts, **zeros, "empty": b"", "a folder": None}


def put(path, content):
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


def told(ended, path):
    """One line of error that names the file, or its folder where that is what was given."""
    assert "Traceback" not in ended.said, ended.said
    lines = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert ended.status == 2, ended.said
    assert len(lines) == 1, ended.said
    assert path.name in lines[0] or str(path.parent) in lines[0], lines[0]


def try_damage(cases, place, source, names, run, same, quick, without_digest=()):
    """Damage each of the files of a copy of ``source`` in turn, and ``run`` what reads it.

    ``without_digest``: files where another text is as good as the one that was written.
    """
    every = [
        (name, kind, content)
        for name in names
        for kind, content in mutations((source / name).read_bytes(), name).items()
        if content != (source / name).read_bytes()
    ]
    for name, kind, content in cases.of(every, quick):
        with cases.case(f"{name}: {kind}"):
            folder = place()
            shutil.copytree(source, folder)
            put(folder / name, content)
            ended = run(folder)
            if ended.status != 0:
                told(ended, folder / name)
                continue
            assert "Traceback" not in ended.said, ended.said
            try:
                same(folder)
            except Lost:
                warnings = [line for line in ended.said.splitlines() if line.startswith("warning: ")]
                if name not in without_digest and not any(f"{name}: " in line for line in warnings):
                    raise


def test_of_a_run(subject, faulty, place, cases):
    """Checkpoints have digests. A text that was changed is another text: metrics.jsonl, timing.jsonl, config.json."""
    one, whole = subject("train going on")
    names = sorted(path.name for path in one.before.iterdir() if path.suffix in (".pt", ".json", ".jsonl"))
    without_digest = [name for name in names if not name.endswith(".pt")]

    def same(folder):
        """Equal; a damaged checkpoint that was not continued from stays, as no run knows it for its own."""
        for path in [*folder.glob("*.damaged"), *(folder / name for name in names if not (whole / name).exists())]:
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
        assert_same_run(folder, whole)

    try_damage(cases, place, one.before, names, lambda folder: one.run(faulty, folder), same, 6, without_digest)


@pytest.fixture(scope="module")
def packed(subject, programs, data, tmp_path_factory):
    """A trained network and held-out records."""
    _, whole = subject("train")
    folder = tmp_path_factory.mktemp("packed") / NAME
    folder.mkdir()
    shutil.copy(whole / "best.pt", folder)
    flags = [f"--data_root={data}", f"--data_lst={data}/val.txt", f"--dst_path={folder}/val.tar"]
    ended = programs("prepare", ["records", *flags, "--num_shards=2", "--num_classes=3"])
    assert ended.status == 0, ended.said
    return folder


FIGURES = ("miou", "per_class_iou", "pixel_accuracy", "images")


def figures(folder):
    (found,) = (folder / "report").glob("metrics-*.json")
    record = json.loads(found.read_text())
    return {name: record[name] for name in FIGURES if name in record}


def test_of_records_and_weights(faulty, packed, place, cases):
    """Shards, their index and description, and ``best.pt``, as ``eval`` reads them."""

    def run(folder):
        flags = [f"--ckpt_path={folder}/best.pt", f"--data_file={folder}/val.tar", f"--report={folder}/report"]
        return faulty("eval", [*flags, *ON_CPU, "--window=0"])

    whole = place()
    shutil.copytree(packed, whole)
    ended = run(whole)
    assert ended.status == 0, ended.said
    expected = figures(whole)
    names = sorted(path.name for path in packed.iterdir())
    try_damage(
        cases, place, packed, names, run, lambda folder: require(figures(folder) == expected, "figures"), 6,
        without_digest=["dataset.json"],  # the names of the classes
    )  # fmt: skip


def test_of_records_made_again(subject, faulty, place, cases):
    """``prepare records`` makes what is damaged again."""
    one, whole = subject("records")
    names = sorted(path.name for path in whole.iterdir())
    try_damage(
        cases, place, whole, names, lambda folder: one.run(faulty, folder),
        lambda folder: assert_same_files(folder, whole), 5,
    )  # fmt: skip


def test_of_labels_made_again(subject, faulty, place, cases):
    """``prepare labels`` takes what was changed for the user's own, and says so; names of classes are anyone's."""
    one, whole = subject("labels")
    names = [MANIFEST, "labels/00.png", "counts.json", "sheet.png", "classes.txt"]
    try_damage(
        cases, place, whole, names, lambda folder: one.run(faulty, folder),
        lambda folder: assert_same_files(folder, whole), 5, without_digest=["classes.txt"],
    )  # fmt: skip


def test_of_results(subject, faulty, place, cases):
    """Damage what ``predict`` finds done."""
    one, whole = subject("predict")
    names = ["00.png", "00_overlay.jpg", "00_probabilities.npz", "predict.json", "areas.csv", "areas.json"]
    try_damage(
        cases, place, whole, names, lambda folder: one.run(faulty, folder),
        lambda folder: assert_same_files(folder, whole), 8,
    )  # fmt: skip


def test_of_a_pretrained_folder(subject, faulty, data, place, cases):
    """Its weights have a digest in ``config.json``, which itself is a text that anyone may change."""
    _, saved = subject("save_pretrained")
    flags = [f"--data_root={data}", f"--data_lst={data}/val.txt", *ON_CPU]

    def run(folder):
        return faulty("eval", [f"--ckpt_path={folder}", f"--report={folder}/report", *flags])

    whole = place()
    shutil.copytree(saved, whole)
    assert run(whole).status == 0
    expected = figures(whole)
    names = ["model.safetensors", "config.json"]
    try_damage(
        cases, place, saved, names, run, lambda folder: require(figures(folder) == expected, "figures"), 4,
        without_digest=["config.json"],
    )  # fmt: skip


def test_of_lists(data, subject, faulty, place, cases):
    """A list is a text: another line is as good a line, if what it names is there."""
    _, trained = subject("train")

    def run(folder):
        flags = [f"--data_root={folder}", f"--data_lst={folder}/val.txt", f"--report={folder}/report", *ON_CPU]
        return faulty("eval", [f"--ckpt_path={trained}/best.pt", *flags])

    try_damage(cases, place, data, ["val.txt"], run, lambda folder: None, 4)
