"""A program whose operation on a file fails does all that it should, or says why in one line; then it can go on."""

import errno
import os

import pytest

from tests.faults.file_faults import ALWAYS, CHANGES, FAIL, READS, SHORT, SLOW, Fault
from tests.faults.plugin import Lost
from tests.faults.subjects import SUBJECTS

WRITE_FAULTS = {
    "full": Fault(FAIL, errno.ENOSPC, times=ALWAYS),
    "full once": Fault(FAIL, errno.ENOSPC),
    "error once": Fault(FAIL, errno.EIO),
    "dead": Fault(FAIL, errno.EIO, times=ALWAYS, kinds=CHANGES | READS),
    "read-only": Fault(FAIL, errno.EROFS, times=ALWAYS),
}
HARMLESS = {
    "interrupted": Fault(FAIL, errno.EINTR, times=3),
    "interrupted reading": Fault(FAIL, errno.EINTR, times=3, kinds=READS),
    "in part": Fault(SHORT),
    "all in part": Fault(SHORT, times=ALWAYS),
    "all reads in part": Fault(SHORT, times=ALWAYS, kinds=READS),
    "slow": Fault(SLOW, times=ALWAYS, kinds=CHANGES | READS),
}


def errors(said):
    """The errors that a program names: of those over several lines, what is in them."""
    lines = said.splitlines()
    found = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    assert len(found) == 1, said
    if not lines[found[0]].endswith(":"):
        return lines[found[0]], 2
    return "\n".join(line for line in lines[found[0] :] if not line.startswith("  ") or ": " in line), 1


def check(one, whole, folder, ended, error):
    """All is as it should be, or what is not is said in one line that names a file and the system's reason.

    A warning where the program can do without: what TensorBoard is told, a picture in the report.
    """
    assert "Traceback" not in ended.said, ended.said
    if ended.status == 0:
        try:
            one.same(folder, whole)
        except Lost:
            lines = [line for line in ended.said.splitlines() if line.startswith("warning: ")]
            if not any(os.strerror(error) in line for line in lines):
                raise
        return
    line, status = errors(ended.said)
    assert ended.status == (status if one.bears_inputs else 2), ended.said
    assert "/" in line, line
    assert os.strerror(error) in line, line


def try_fault(one, whole, faulty, place, fault, below=None):
    """Make the fault, look at what is left, and give the command again."""
    folder = place()
    one.start(folder)
    ended = one.run(faulty, folder, fault, below)
    check(one, whole, folder, ended, fault.error)
    one.keeps(folder, whole)
    ended = one.run(faulty, folder)
    assert ended.status == 0, ended.said
    one.same(folder, whole)


def count(one, faulty, place, fault, below=None):
    """The operations at which the fault can be made."""
    folder = place()
    one.start(folder)
    return one.run(faulty, folder, fault._replace(at=0), below).points


@pytest.mark.fault("a disk that is full, dead or turns read-only")
@pytest.mark.parametrize("kind", WRITE_FAULTS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_writing_fails(kind, name, subject, faulty, place, cases):
    one, whole = subject(name)
    fault = WRITE_FAULTS[kind]
    points = count(one, faulty, place, fault)
    if len(points) > 40 and kind in ("full once", "read-only", "dead"):
        points = points[::4]  # "full" and "error once" are tried at all
    if not cases.take_all:  # one, and each kind at another place
        points = points[list(WRITE_FAULTS).index(kind) * (len(points) - 1) // (len(WRITE_FAULTS) - 1) :][:1]
    for at in points:
        with cases.case(f"{name}: {fault._replace(at=at)}"):
            try_fault(one, whole, faulty, place, fault._replace(at=at))


@pytest.mark.fault("a file that cannot be read")
@pytest.mark.parametrize("name", SUBJECTS)
def test_reading_fails(name, subject, faulty, place, cases):
    one, whole = subject(name)
    fault = Fault(FAIL, errno.EIO, kinds=READS)
    for below in (None, *one.inputs):
        points = count(one, faulty, place, fault, below)
        if below is not None:  # one sample is read as the others are
            points = points[:: max(1, len(points) // 60)]
        for at in cases.of(points, quick=2):
            with cases.case(f"{name}: {fault._replace(at=at)} below {below or 'its folder'}"):
                try_fault(one, whole, faulty, place, fault._replace(at=at), below)


@pytest.mark.fault("system calls that are interrupted, done in part or slow")
@pytest.mark.parametrize("name", SUBJECTS)
def test_calls_that_do_less_than_asked(name, subject, faulty, place, cases):
    """They are asked again, and nobody sees anything of it; FFmpeg does not, and says that a video was interrupted."""
    one, whole = subject(name)
    for kind in cases.of(list(HARMLESS), quick=2 if name.startswith("train") else 3):
        fault = HARMLESS[kind]
        for below in (None, *one.inputs) if fault.kinds & READS else (None,):
            points = count(one, faulty, place, fault, below)
            if fault.times == ALWAYS:
                points = points[:1]
            for at in cases.of(points[:: max(1, len(points) // 30)], quick=1):
                with cases.case(f"{name}: {fault._replace(at=at)} below {below or 'its folder'}"):
                    if fault.error and name.startswith("video"):
                        try_fault(one, whole, faulty, place, fault._replace(at=at), below)
                        continue
                    folder = place()
                    one.start(folder)
                    ended = one.run(faulty, folder, fault._replace(at=at), below)
                    assert ended.status == 0, ended.said
                    one.same(folder, whole)
