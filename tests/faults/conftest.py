"""The process that runs programs with faults, one for all tests of a session."""

import itertools
import shutil

import pytest

from tests.faults.file_faults import build_library
from tests.faults.programs import Programs
from tests.faults.subjects import NAME, make_subjects, whole_of
from tests.trials.samples import write_samples


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    library = build_library(tmp_path_factory.mktemp("library"))
    with_faults = Programs(library)
    yield with_faults
    with_faults.close()


@pytest.fixture(scope="session")
def faulty(programs):
    """Give ``programs`` where any fault can be made, not only a kill."""
    if programs.library is None:
        pytest.skip("needs Linux and a C compiler")
    return programs


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Samples that nothing changes."""
    return write_samples(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def subject(programs, data, tmp_path_factory):
    """Give a subject by its name, and the folder of a run of it that nothing disturbed."""
    root = tmp_path_factory.mktemp("subjects")
    made = make_subjects(programs, root, data)

    def one(name):
        return made[name], whole_of(made[name], programs, root)

    return one


@pytest.fixture
def place(tmp_path):
    """Give a folder for each case, always of the name that a subject's has; what lay beside the last one is removed."""
    numbers = itertools.count()

    def one():
        for old in tmp_path.glob("case*"):
            shutil.rmtree(old)
        (folder := tmp_path / f"case{next(numbers)}").mkdir()
        return folder / NAME

    return one
