"""A test that leaves what others share changed is named; random numbers do not depend on what ran before."""

from pathlib import Path

import pytest

LEFT = {
    "the current folder": "import os; os.chdir('/')",
    "the environment": "import os; os.environ['LEFT'] = '1'",
    "sys.path": "import sys; sys.path.append('left')",
    "answers to signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "torch's default type": "import torch; torch.set_default_dtype(torch.float64)",
    "torch's determinism": "import torch; torch.use_deterministic_algorithms(True, warn_only=True)",
    "torch's gradients": "import torch; torch.set_grad_enabled(False)",
    "Pillow's limits": "import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = 1",
    "the root logger": "import logging; logging.disable(logging.ERROR)",
}


# A fixture of the module draws before the first test and not before the second.
DRAWN = """
import random
import numpy as np, pytest, torch
seen = []
@pytest.fixture(scope="module")
def made():
    return torch.rand(5), random.random(), np.random.rand()
def draw():
    seen.append((torch.rand(1).item(), random.random(), np.random.rand()))
def test_first(made): draw()
def test_second(made): draw()
def test_third():
    draw()
    assert seen[0] == seen[1] == seen[2]
"""


@pytest.fixture
def outcome_of(pytester, monkeypatch):
    """Run the text of a file of tests in a process of its own, with the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))

    def run(text):
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess("-p", "tests.state", "-p", "no:cacheprovider", "-p", "no:cov")

    return run


@pytest.mark.long
def test_what_is_left_changed_is_named(outcome_of):
    cases = "".join(f"def test_{i}(): {code}\n" for i, code in enumerate(LEFT.values()))
    outcome = outcome_of(f"{cases}def test_nothing(): pass\n")
    outcome.assert_outcomes(passed=len(LEFT) + 1, errors=len(LEFT))
    said = outcome.stdout.str()
    assert all(f"left changed for the next test: {name}: " in said for name in LEFT)


SHARED = """
import pytest, torch
@pytest.fixture(scope="module")
def network():
    return torch.nn.BatchNorm1d(3).eval()
def test_uses(network): network(torch.ones(2, 3))
def test_mode(network): network.train()
def test_uses_it_again(network): network.state_dict()
def test_buffer(network): network(torch.ones(2, 3))
def test_parameter(network): torch.nn.init.zeros_(network.weight)
"""


@pytest.mark.long
def test_a_network_that_tests_share_is_left_as_it_was(outcome_of):
    outcome = outcome_of(SHARED)
    outcome.assert_outcomes(passed=5, errors=3)
    said = outcome.stdout.str()
    assert all(f"ERROR at teardown of test_{name} " in said for name in ("mode", "buffer", "parameter"))
    assert "left changed for the next test: a network of the fixture network" in said


@pytest.mark.long
def test_random_numbers_are_the_same_wherever_a_test_stands(outcome_of):
    outcome_of(DRAWN).assert_outcomes(passed=3)
