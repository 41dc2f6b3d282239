"""A folder moved away, or a file put into its place, while a program works there: one line, and nothing is lost.

Put back, the same command goes on to the same bits.
"""

import shutil
from pathlib import Path

import pytest

from tests.faults.file_faults import CHANGES, MOVE, READS, REPLACE, Fault
from tests.faults.subjects import SUBJECTS


def put_back(folder):
    """Give the folder that was moved away its name again; what was put into its place goes."""
    gone = Path(f"{folder}.gone")
    if not gone.exists():
        return
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
    gone.rename(folder)


def check(one, whole, folder, ended):
    """It was done in the folder that it had open, or said in one line."""
    assert "Traceback" not in ended.said, ended.said
    if ended.status == 0:
        return
    assert ended.status in ((1, 2) if one.bears_inputs else (2,)), ended.said
    lines = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ended.said
    assert "/" in lines[0] or ended.status == 1, lines[0]


@pytest.mark.fault("a folder moved away or replaced while it is in use")
@pytest.mark.parametrize("deed", [MOVE, REPLACE], ids=["moved", "replaced"])
@pytest.mark.parametrize("name", SUBJECTS)
def test_what_a_program_writes_to(deed, name, subject, faulty, place, cases):
    one, whole = subject(name)
    folder = place()
    one.start(folder)
    points = one.run(faulty, folder).points
    for at in cases.of(points[:: max(1, len(points) // 12)][0 if cases.take_all else 6 :], quick=1):
        with cases.case(f"{name}, operation {at}"):
            folder = place()
            one.start(folder)
            check(one, whole, folder, one.run(faulty, folder, Fault(deed, at=at)))
            put_back(folder)
            one.keeps(folder, whole)
            ended = one.run(faulty, folder)
            assert ended.status == 0, ended.said
            one.same(folder, whole)


@pytest.mark.fault("a folder moved away or replaced while it is in use")
@pytest.mark.parametrize("deed", [MOVE, REPLACE], ids=["moved", "replaced"])
@pytest.mark.parametrize("name", ["train", "eval", "predict", "records"])
def test_what_a_program_reads(deed, name, subject, faulty, place, cases):
    one, whole = subject(name)
    for below in one.inputs:
        counted = one.run(faulty, place(), Fault(kinds=CHANGES | READS), below).points
        for at in cases.of(counted[:: max(1, len(counted) // 6)][0 if cases.take_all else 3 :], quick=1):
            with cases.case(f"{name}, operation {at} below {below}"):
                folder = place()
                try:
                    check(one, whole, folder, one.run(faulty, folder, Fault(deed, at=at, kinds=CHANGES | READS), below))
                finally:
                    put_back(below)
                ended = one.run(faulty, folder)
                assert ended.status == 0, ended.said
                one.same(folder, whole)
