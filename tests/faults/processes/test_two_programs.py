"""Two programs at once that write into one folder: the second is refused, waits, or does its part of the same.

The first waits in the middle of its work while the second one runs.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from deeplab_fast.model.weights import read_file_or_folder
from tests.faults.processes.conftest import SmallPrograms, command, files, same
from tests.faults.programs import Programs
from tests.faults.tiny import make_tiny
from tests.trials.conftest import save_network

# In which of its calls the first one waits, and flags that would have the second write other results.
REFUSED = {
    "prepare records": (("deeplab_fast.data.records.write:_write_shard", 2), "--num_classes=4"),
    "prepare lists": (("deeplab_fast.data.split:write_texts", 1), "--val_share=0.5"),
    "prepare labels": (("deeplab_fast.prepare.label_output:write_texts", 1), "--ignore_label=254"),
}
PREDICTED = "deeplab_fast.storage.mask_folder:MaskFolder.write"
LIMIT_S = 300

pytestmark = pytest.mark.fault("two programs in one folder")


@pytest.fixture(scope="module")
def second(programs):
    """Run programs while those of ``programs`` do."""
    others = Programs(programs.programs.library)
    yield SmallPrograms(others, programs.data)
    others.close()


@contextmanager
def waiting(programs, tmp_path, where, program, argv):
    """Begin a program; within the block it waits in a call. Gives what waits for its end and says how it ended."""
    place = tmp_path / "signs"
    place.mkdir()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(programs, program, argv, ("waits_in", *where, str(place)))
        try:
            limit = time.monotonic() + LIMIT_S
            while not (place / "reached").exists():
                assert not running.done(), running.result().said
                assert time.monotonic() < limit
                time.sleep(0.01)
            yield lambda: ((place / "go_on").touch(), running.result())[1]
        finally:
            (place / "go_on").touch()


def refused(ended):
    assert ended.status == 2, ended.said
    assert len(ended.errors) == 1, ended.said
    return ended.errors[0]


def assert_whole(programs, commands, name, folder, tmp_path):
    """The folder holds what one program alone writes."""
    program, argv = command(commands, name, tmp_path / "alone")
    assert programs(program, argv).status == 0
    assert files(folder) == files(tmp_path / "alone")
    assert all(same(folder / path, tmp_path / "alone" / path) for path in files(folder))


@pytest.mark.parametrize("name", REFUSED)
def test_the_second_is_refused(name, programs, second, commands, tmp_path):
    where, other = REFUSED[name]
    program, argv = command(commands, name, tmp_path / "both")
    argv = [*argv, "--num_shards=2"] if name == "prepare records" else argv
    with waiting(programs, tmp_path, where, program, argv) as end:
        assert "another run is writing there" in refused(second(program, [*argv, other]))
        first = end()
    assert first.status == 0, first.said
    again = programs(program, argv)
    assert again.status == 0, again.said
    if name != "prepare records":
        assert_whole(programs, commands, name, tmp_path / "both", tmp_path)


def test_two_sets_of_records_go_into_one_folder(programs, second, commands, tmp_path):
    program, argv = command(commands, "prepare records", tmp_path / "both")
    other = [*argv[:-1], argv[-1].replace("train.tar", "other.tar")]
    with waiting(programs, tmp_path, ("deeplab_fast.data.records.write:describe", 1), program, argv) as end:
        ended = second(program, other)
        assert ended.status == 0, ended.said
        assert end().status == 0
    assert {"train-00000.tar", "other-00000.tar"} <= {path.name for path in files(tmp_path / "both")}
    assert not list((tmp_path / "both").glob("*.lock"))


@pytest.mark.parametrize("call", [1, 3])
def test_two_predictions_share_the_work(call, programs, second, commands, tmp_path):
    program, argv = command(commands, "predict", tmp_path / "both")
    with waiting(programs, tmp_path, (PREDICTED, call), program, argv) as end:
        ended = second(program, argv)
        assert ended.status == 0, ended.said
        first = end()
    assert first.status == 0, first.said
    assert_whole(programs, commands, "predict", tmp_path / "both", tmp_path)


@pytest.mark.parametrize("more", [[], ["--overwrite=True"]], ids=["as it is", "overwrite"])
def test_a_prediction_that_makes_others_is_refused(more, programs, second, commands, tmp_path):
    program, argv = command(commands, "predict", tmp_path / "both")
    with waiting(programs, tmp_path, (PREDICTED, 2), program, argv) as end:
        said = refused(second(program, [*argv, "--overlay=0.9", *more]))
        assert ("another run is writing there" if more else "holds results of another run") in said
        first = end()
    assert first.status == 0, first.said
    assert_whole(programs, commands, "predict", tmp_path / "both", tmp_path)


def test_a_prediction_waits_for_one_that_begins(programs, second, commands, tmp_path):
    program, argv = command(commands, "predict", tmp_path / "both")
    with (
        waiting(programs, tmp_path, ("deeplab_fast.predict:find_results", 1), program, argv) as end,
        ThreadPoolExecutor(1) as thread,
    ):
        other = thread.submit(second, program, [*argv, "--overlay=0.9"])
        time.sleep(2)
        assert not other.done(), other.result().said
        first = end()
        ended = other.result()
    assert first.status == 0, first.said
    assert "another run begins there, or replaces results; waiting for it" in ended.said
    assert "holds results of another run" in refused(ended)
    assert_whole(programs, commands, "predict", tmp_path / "both", tmp_path)


def test_of_two_networks_saved_the_folder_holds_one(programs, second, monkeypatch, tmp_path):
    make_tiny(monkeypatch.setattr)
    for seed in (0, 1):
        save_network(tmp_path / f"{seed}.pt", seed)
    where = ("deeplab_fast.model.weights.model_folder:_sha256", 1)
    first, other = ([tmp_path / f"{seed}.pt", tmp_path / "saved"] for seed in (0, 1))
    with (
        waiting(programs, tmp_path, where, "save_pretrained", first) as end,
        ThreadPoolExecutor(1) as thread,
    ):
        ended = thread.submit(second, "save_pretrained", other)
        time.sleep(2)
        assert not ended.done(), ended.result().said
        assert end().status == 0
        assert ended.result().status == 0, ended.result().said
    saved, expected = (read_file_or_folder(path).tensors for path in (tmp_path / "saved", tmp_path / "1.pt"))
    assert all(saved[name].equal(tensor) for name, tensor in expected.items())
