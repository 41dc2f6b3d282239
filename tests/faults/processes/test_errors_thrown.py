"""Errors where none is expected: the steps done are saved, and the same command goes on to the same bits."""

import pytest
import torch

from tests.faults.processes.test_memory_ends import saved_step

LOADER = "deeplab_fast.data.reference_loader:ReferenceLoader._load_one"


@pytest.mark.fault("an error thrown in a loader or an evaluation")
@pytest.mark.parametrize(
    ("where", "number", "error", "status", "step", "more"),
    [
        (LOADER, 3, "RuntimeError", 1, 1, [("no_native_loader",)]),
        (LOADER, 3, "MemoryError", 2, 1, [("no_native_loader",)]),
        ("deeplab_fast.ops.input.sample_loader:SampleLoader.wait", 2, "RuntimeError", 1, 1, []),
        ("deeplab_fast.evaluation.tally:Tally.add", 1, "RuntimeError", 1, 3, []),
        ("deeplab_fast.training.trainer:keep_scores", 1, "disk full", 2, 3, []),
        ("deeplab_fast.training.trainer:strip_of", 1, "RuntimeError", 1, 3, []),
        ("deeplab_fast.training.step:update", 2, "RuntimeError", 1, 1, []),
        ("deeplab_fast.training.step:update", 2, "UserError", 2, 1, []),
    ],
)
def test_steps_are_saved(where, number, error, status, step, more, programs, goes_on, tmp_path):
    ended = programs.train(tmp_path / "run", *more, ("throws", where, number, error))
    assert ended.status == status, ended.said
    assert saved_step(tmp_path / "run") == step
    goes_on(tmp_path / "run")


@pytest.mark.fault("an error thrown in a tracker")
@pytest.mark.parametrize("name", ["scalars", "image", "close"])
def test_a_tracker_that_fails_ends_no_run(name, programs, whole_run, tmp_path):
    where = f"deeplab_fast.storage.trackers.tensorboard:TensorBoard.{name}"
    ended = programs.train(tmp_path / "run", ("throws", where, 1, "RuntimeError"))
    assert ended.status == 0, ended.said
    assert ended.said.count("nothing more goes to TensorBoard (a kernel failed more)") == 1
    a, b = (torch.load(folder / "best.pt", weights_only=True)["model"] for folder in (tmp_path / "run", whole_run))
    assert all(torch.equal(a[key], b[key]) for key in a)
