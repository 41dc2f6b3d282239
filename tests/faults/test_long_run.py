"""Long runs: memory, descriptors and threads stay what they are, and the last batch costs no more than the first."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import REPO

# What is counted, how many of it in a long run and in a quick one. A hundred evaluations and saves are in the longest.
COUNTS = {"lists": (20_000, 1_000), "records": (20_000, 1_000), "training": (2_000, 200)}
MOMENTS, TENTH = 200, 20
MOST_MB_PER_1000, LEAST_RATE = 1.0, 0.95


def measured(kind, folder, count):
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.long_run", kind, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    moments = json.loads(done.stdout.splitlines()[-1])
    assert len(moments) == MOMENTS
    return {key: np.array([moment[key] for moment in moments]) for key in moments[0]}


def assert_flat(values):
    """The least of each stretch is the same: at a moment a file may be open, a thread be ending."""
    settled = values[2 * TENTH :]  # caches and pools are full, the first evaluation and the first save are done
    assert len(set(settled.reshape(8, -1).min(1).tolist())) == 1, values.tolist()


def last_rate(found):
    """Rate of the last tenth of the run in that of the first, in processor time on a machine of equal speed."""
    work = np.diff(found["cpu_s"]) - found["yardstick_s"][:-1]
    units = 2 * work / (found["yardstick_s"][:-1] + found["yardstick_s"][1:])
    return np.median(units[:TENTH]) / np.median(units[-TENTH:])


@pytest.mark.fault("long runs: memory, descriptors, threads, rate")
@pytest.mark.parametrize("kind", COUNTS)
def test_a_long_run_costs_at_its_end_what_it_cost_at_its_beginning(kind, cases, tmp_path):
    count = COUNTS[kind][0 if cases.take_all else 1]
    found = measured(kind, tmp_path / "first", count)
    for what in ("descriptors", "threads"):
        with cases.case(f"{kind}: {what}"):
            assert_flat(found[what])
    if not cases.take_all:
        return
    with cases.case(f"{kind}: memory"):
        slope = np.polyfit(found["done"][2 * TENTH :], found["memory_mb"][2 * TENTH :], 1)[0] * 1000
        assert slope < MOST_MB_PER_1000, f"{slope:.2f} MB per 1,000, {found['memory_mb'].tolist()}"
    with cases.case(f"{kind}: rate"):  # what slows down does so every time, a busy machine does not
        rates = [last_rate(found)]
        while rates[-1] < LEAST_RATE and len(rates) < 3:
            rates.append(last_rate(measured(kind, tmp_path / f"again-{len(rates)}", count)))
        assert rates[-1] >= LEAST_RATE, rates
