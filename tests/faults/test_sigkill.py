"""A program killed at any operation on its files, and given again, ends equal to the bit with an undisturbed one."""

import random

import pytest

from tests.faults.file_faults import KILL, NONE, Fault
from tests.faults.same import assert_same_run
from tests.faults.subjects import SUBJECTS, TRAIN, on_samples
from tests.mindrecord_writer import write_mindrecord

pytestmark = pytest.mark.fault("killed at a file operation")
KILLED = -9


@pytest.mark.parametrize("name", SUBJECTS)
def test_killed_at_an_operation(name, subject, programs, place, cases):
    one, whole = subject(name)
    folder = place()
    one.start(folder)
    points = one.run(programs, folder).points
    for at in cases.of(points, quick=8 if name == "train" else 3):
        with cases.case(f"{name}, operation {at} of {points[-1]}"):
            folder = place()
            one.start(folder)
            ended = one.run(programs, folder, Fault(KILL, at=at))
            assert ended.status == KILLED, ended.said
            one.keeps(folder, whole)
            ended = one.run(programs, folder)
            assert ended.status == 0, ended.said
            assert "Traceback" not in ended.said
            one.same(folder, whole)


def test_killed_again_and_again(subject, programs, place, cases):
    """Each time a little further."""
    one, whole = subject("train")
    rng = random.Random(1)
    for number in cases.of(range(12), quick=1):
        with cases.case(number):
            folder = place()
            count = one.run(programs, place()).count
            for _ in range(6):
                one.run(programs, folder, Fault(KILL, at=rng.randrange(1, count // 2)))
            ended = one.run(programs, folder)
            assert ended.status == 0, ended.said
            one.same(folder, whole)


@pytest.fixture(scope="module")
def records(programs, data, tmp_path_factory):
    """The samples as shards and as MindRecord files."""
    root = tmp_path_factory.mktemp("records")
    for part in ("train", "val"):
        flags = [f"--data_root={data}", f"--data_lst={data}/{part}.txt", f"--dst_path={root}/{part}.tar"]
        ended = programs("prepare", ["records", *flags, "--num_shards=2", "--num_classes=3"])
        assert ended.status == 0, ended.said
    rows = []
    for line in (data / "train.txt").read_text().splitlines():
        image, label = (data / name for name in line.split())
        rows.append((image.name, image.read_bytes(), label.read_bytes()))
    write_mindrecord(root / "train.mindrecord", rows, shards=2)
    return root


def variant(name, data, records):
    """The flags of a run that keeps or computes something else."""
    held_out = [f"--val_data_root={data}", f"--val_data_lst={data}/val.txt"]
    return {
        "without EMA": [*on_samples(data), "--ema_decay=0"],
        "accumulated": [*on_samples(data), "--batch_size=2", "--accumulate_steps=2"],
        "bf16": [*on_samples(data), "--precision=bf16"],
        "adapted": [*on_samples(data), "--crop_size=auto", "--lr_type=poly", "--ohem", "--clip_grad_norm=1"],
        "records": [f"--data_file={records}/train.tar", f"--val_data_file={records}/val.tar"],
        "two processes": [*on_samples(data), "--batch_size=2", "--sync_bn"],
        "MindRecord": [f"--data_file={records}/train.mindrecord0", *held_out],
    }[name]


VARIANTS = ("without EMA", "accumulated", "bf16", "adapted", "records", "MindRecord", "two processes")


@pytest.mark.parametrize("name", VARIANTS)
def test_what_else_a_run_keeps(name, programs, data, records, place, tmp_path, cases):
    flags = [*TRAIN, *variant(name, data, records)]
    processes = 2 if name == "two processes" else 1

    def train(folder, fault=NONE):
        argv = [f"--train_dir={folder}", *flags]
        return programs("train", argv, fault.below(folder), processes=processes, all_die=True)

    whole = tmp_path / "whole"
    ended = train(whole)
    assert ended.status == 0, ended.said
    for at in cases.of(ended.points[25::25], quick=1):
        with cases.case(f"{name}, operation {at}"):
            folder = place()
            assert train(folder, Fault(KILL, at=at)).status == KILLED
            ended = train(folder)
            assert ended.status == 0, ended.said
            assert_same_run(folder, whole)
