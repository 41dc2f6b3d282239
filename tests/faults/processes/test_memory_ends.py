"""Memory that ends: one line says for what and what would help; nothing half done is saved, nothing saved is lost."""

import math
import random
import re
import signal
from pathlib import Path

import pytest
import torch

import deeplab_fast
from tests.faults.plugin import Lost
from tests.faults.processes.conftest import SmallPrograms, command
from tests.faults.programs import Programs

MB = 1 << 20


def check_line(ended, what=""):
    """One line of an error, which names memory and what was to be expected in its place."""
    assert ended.status == 2, f"{ended.status}: {ended.said}"
    assert "Traceback" not in ended.said
    assert len(ended.errors) == 1, ended.said
    assert re.search(rf"error: .*{what}.*memory", ended.errors[0]), ended.said


def saved_step(folder):
    return max(torch.load(path, weights_only=True)["step"] for path in folder.glob("*.pt") if path.name != "best.pt")


@pytest.mark.fault("no memory for an operation of a training step")
def test_an_operation_of_a_step(programs, goes_on, cases, tmp_path):
    """The steps done are saved, whatever the failed one had changed: BatchNorm's statistics, random numbers."""
    counted = programs.train(tmp_path / "counted", ("memory_ends_in_step", 2, 0)).counts[0]
    assert counted > 100
    rng = random.Random(3)
    every = sorted({1, *rng.sample(range(2, counted - 8), 30), *range(counted - 8, counted + 1)})
    for operation in cases.of(every, quick=5):
        with cases.case(f"operation {operation} of {counted}"):
            folder = tmp_path / f"run{operation}"
            ended = programs.train(folder, ("memory_ends_in_step", 2, operation))
            check_line(ended, "step 2, 2 images of 33 x 33: out of")
            assert "--batch_size" in ended.errors[0]
            saved = saved_step(folder)
            if "could not be saved" in ended.said:  # the weights were being updated
                assert saved == 0
            else:
                assert saved == 1
            try:
                goes_on(folder)
            except AssertionError as error:
                raise Lost(str(error)) from None


@pytest.mark.fault("no memory outside of a training step")
@pytest.mark.parametrize(
    ("where", "number", "error", "step"),
    [
        ("deeplab_fast.ops.input.sample_loader:SampleLoader.wait", 2, "MemoryError", 1),
        ("deeplab_fast.ops.input.sample_loader:SampleLoader.submit", 5, "no memory", 1),
        ("deeplab_fast.evaluation.evaluator:_Batches.predict", 1, "OutOfMemoryError", 3),
        ("deeplab_fast.evaluation.tally:Tally.add", 1, "MemoryError", 3),
        ("deeplab_fast.training.trainer:strip_of", 1, "OutOfMemoryError", 3),
    ],
)
def test_between_steps(where, number, error, step, programs, goes_on, tmp_path):
    ended = programs.train(tmp_path / "run", ("throws", where, number, error))
    check_line(ended)
    assert saved_step(tmp_path / "run") == step
    goes_on(tmp_path / "run")


def is_of_others(said):
    """Tell whether the native code that crashed was a library's: only our files that name the extension call ours."""
    file = Path(re.search(r"^Current thread .*\n  File \"([^\"]+)\"", said, re.M)[1])
    return not file.is_relative_to(Path(deeplab_fast.__file__).parent) or "extension" not in file.read_text()


def check_limited(ended, name):
    """It was done, or ended with one line."""
    if ended.status == 127:  # the C library's own, where not even a new thread has room
        assert ended.said.splitlines()[-1] == "cannot allocate memory for thread-local data: ABORT"
    elif ended.status == -signal.SIGSEGV:  # oneDNN's without room for the code of a convolution; once NumPy's
        assert is_of_others(ended.said), ended.said
    elif ended.status == 1 and name == "predict":  # each image is tried
        _, said, listed = ended.said.rpartition(" could not be segmented:\n")
        assert said, ended.said
        assert all(line.endswith("not enough memory for it") for line in listed.splitlines()), ended.said
        assert "Warning" not in ended.said
    elif ended.status != 0:
        check_line(ended)


@pytest.fixture(scope="module")
def cold(programs):
    """Run programs as one begins that is started alone: no memory has been freed yet that a limit would not count."""
    cold = Programs(programs.programs.library, is_warm=False)
    yield SmallPrograms(cold, programs.data)
    cold.close()


@pytest.mark.fault("a limit of the memory of a program")
@pytest.mark.parametrize("name", ["train", "predict", "eval", "export", "prepare records"])
def test_limits(name, programs, cold, commands, goes_on, cases, tmp_path):
    """From next to nothing to enough; the same command without a limit then does all."""
    limits = [round(i + math.expm1(i * math.log1p(600) / 23)) * MB for i in range(24)]
    for limit in cases.of(limits, quick=3):
        with cases.case(f"{limit // MB} MB more"):
            folder, faults = tmp_path / f"run{limit}", (("tell_crash",), ("limit_memory", limit))
            if name == "train":
                check_limited(cold.train(folder, *faults), name)
                goes_on(folder)
            else:
                given = command(commands, name, folder)
                check_limited(cold(*given, *faults), name)
                ended = programs(*given)
                assert ended.status == 0, ended.said
