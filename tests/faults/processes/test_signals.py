"""Signals at any moment: a program ends with 128 + the signal's number and a line, and nothing is torn or lost.

A moment is a number of Python's calls, so that a case that fails can be tried again.
"""

import random
import signal

import pytest

from tests.faults.plugin import Lost
from tests.faults.processes.conftest import command, files, same

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def moments(total, count):
    """Signals spread over ``total`` calls: one, or two in a row, the second a few calls after the first or far."""
    rng = random.Random(7)
    for i in range(count):
        first = 1 + (i * total + rng.randrange(total)) // count
        found = [(first, rng.choice(NAMES))]
        if i % 2:
            found.append((first + rng.choice((1, 20, 500, 20_000)), rng.choice(NAMES)))
        yield found


def check_end(ended, given):
    names = {name for _, name in given}
    assert ended.status in {0, *(128 + signal.Signals[name] for name in names)}, f"{ended.status}: {ended.said}"
    assert "Traceback" not in ended.said
    assert "Exception" not in ended.said
    said = [line for line in ended.said.splitlines() if line.startswith(("interrupted", "stopped", "error"))]
    assert len(said) <= 2, ended.said
    assert ended.status == 0 or said, ended.said


@pytest.mark.fault("a signal, or two, to a training run")
def test_training(programs, goes_on, cases, tmp_path):
    total = programs.train(tmp_path / "counted", ("signals_at",)).counts[0]
    for i, given in enumerate(cases.of(list(moments(total, 60)), quick=4)):
        with cases.case(given):
            folder = tmp_path / f"run{i}"
            faults = ("every_signal_counts",), ("signals_at", *given)
            check_end(programs.train(folder, *faults, to_the_end=i % 4 == 0), given)
            try:
                goes_on(folder)
            except AssertionError as error:
                raise Lost(str(error)) from None


@pytest.mark.fault("a signal, or two, to another program")
@pytest.mark.parametrize("name", ["predict", "eval", "export", "prepare records", "prepare lists", "prepare labels"])
def test_other_programs(name, programs, commands, cases, tmp_path):
    whole = tmp_path / "whole"
    ended = programs(*command(commands, name, whole), ("signals_at",))
    assert ended.status == 0, ended.said
    for i, given in enumerate(cases.of(list(moments(ended.counts[0], 24)), quick=2)):
        with cases.case(given):
            folder = tmp_path / f"run{i}"
            check_end(programs(*command(commands, name, folder), ("signals_at", *given)), given)
            left = files(folder)
            assert left <= files(whole), "a temporary file stays"
            torn = [path for path in left if not same(folder / path, whole / path)]
            if torn:
                raise Lost(f"half written: {torn}")


@pytest.mark.fault("the reader of the output leaves")
@pytest.mark.parametrize("streams", [[1], [2], [1, 2]], ids=["stdout", "stderr", "both"])
def test_closed_output(streams, programs, commands, whole_run, tmp_path):
    ended = programs.train(tmp_path / "run", ("closed_output", *streams))
    assert ended.status == 0, ended.said
    assert "Traceback" not in ended.said
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()
    ended = programs("predict", ["--input=nowhere"], ("closed_output", *streams))
    assert ended.status == 2, ended.said


def test_nohup_keeps_a_hangup_from_a_run():
    from deeplab_fast.signals import interrupting_signals

    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in interrupting_signals()
    finally:
        signal.signal(signal.SIGHUP, old)
    assert signal.SIGHUP in interrupting_signals()
