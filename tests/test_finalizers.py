"""Signals that come where Python passes over errors: in finalizers."""

import subprocess
import sys

import pytest

PROGRAM = """
import signal, sys, time, weakref
from deeplab_fast.cli import run
from deeplab_fast.signals import StopRequest

class Thing:
    pass

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def by_callback():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing

def by_del():
    Finalized()

def wait():
    for _ in range(400):
        time.sleep(0.05)
    return 5

def program(argv):
    {how}()
    return wait()

def run_that_stops(argv):
    with StopRequest().listening() as request:
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        time.sleep(1.1)
        {how}()
        return wait()

run({main})
"""


@pytest.mark.parametrize("how", ["by_callback", "by_del"])
@pytest.mark.parametrize("main", ["program", "run_that_stops"])
def test_a_signal_within_a_finalizer_ends_the_program(how, main):
    program = PROGRAM.format(how=how, main=main)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (143, "interrupted\n")


def test_other_errors_in_finalizers_are_said():
    program = """
from deeplab_fast.cli import run

class Finalized:
    def __del__(self):
        raise ValueError("said")

def program(argv):
    Finalized()

run(program)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert "ValueError: said" in ended.stderr
