"""Two processes of a run, one of which fails somewhere: both end, one says why, and the same command goes on."""

import json
import re

import pytest

from tests.faults.plugin import Lost

TWO = ("--process_timeout=60", "--batch_size=1", "--num_workers=0")
LOADING = "deeplab_fast.ops.input.sample_loader:SampleLoader.wait"
STEP = "deeplab_fast.training.step:update"
EVALUATION = "deeplab_fast.evaluation.tally:Tally.add"
SAVING = "deeplab_fast.storage.seal:write"
STARTING = "deeplab_fast.training.run:build_model"
REPORT = "deeplab_fast.training.fit:write_report"

# A rank, what becomes of it, and words of the one error that is said.
CASES = [
    (1, "dies_in", LOADING, 3, [], "rank 1 .* ended without a word"),
    (0, "dies_in", SAVING, 3, [], "rank 0 .* ended without a word|lost their connection"),
    (1, "dies_in", EVALUATION, 1, [], "rank 1 .* ended without a word"),
    (1, "throws", LOADING, 3, ["MemoryError"], "loading samples: out of memory"),
    (0, "throws", SAVING, 3, ["disk full"], "cannot be written"),
    (1, "throws", STEP, 3, ["OutOfMemoryError"], "step 3, .*: out of memory .*what was saved stands"),
    (0, "throws", EVALUATION, 1, ["UserError"], "a mistake"),
    (1, "dies_in", STEP, 4, [], "rank 1 .* ended without a word"),
    (0, "dies_in", STEP, 4, [], "rank 0 .* ended without a word|lost their connection"),
    (1, "dies_in", STARTING, 1, [], "rank 1 .* ended without a word"),
    (1, "throws", STARTING, 1, ["MemoryError"], "out of memory"),
    (1, "throws", EVALUATION, 1, ["OutOfMemoryError"], "evaluation: out of memory"),
    (0, "throws", REPORT, 1, ["UserError"], "a mistake"),
]


@pytest.fixture(scope="module")
def whole_of_two(programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "run"
    ended = programs.train(folder, more=TWO, processes=2)
    assert ended.statuses == [0, 0], ended.said
    return folder


@pytest.mark.fault("one of several processes fails")
def test_one_of_two(programs, whole_of_two, cases, tmp_path):
    from tests.faults.same import assert_same_run

    for i, (rank, kind, where, number, more, words) in enumerate(cases.of(CASES, quick=3)):
        with cases.case(f"rank {rank} {kind} {where} {number} {more}"):
            folder = tmp_path / f"run{i}"
            fault = ("on_rank", rank, kind, where, number, *more)
            ended = programs.train(folder, fault, more=TWO, processes=2)
            expected = {rank: -9, 1 - rank: 2} if kind == "dies_in" else {0: 2, 1: 2}
            assert dict(enumerate(ended.statuses)) == expected, ended.said
            assert len(ended.errors) == 1, ended.said
            assert re.search(words, ended.errors[0]), ended.errors
            assert "Traceback" not in ended.said
            again = programs.train(folder, more=TWO, processes=2)
            assert again.statuses == [0, 0], again.said
            try:
                assert_same_run(folder, whole_of_two)
            except AssertionError as error:
                raise Lost(str(error)) from None
    assert [json.loads(line)["step"] for line in (whole_of_two / "timing.jsonl").read_text().splitlines()]
