"""Broken and hostile files: the native decoders decode or refuse each, in bounded time and memory, and soundly.

The corpus goes through a process of its own: a crash, or a report of the sanitizers (``make asan``), is its exit
status.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_fast.ops import extension

NATIVE = extension.decoder()[0]
pytestmark = pytest.mark.skipif(NATIVE is None, reason=f"no native decoder: {extension.decoder()[1]}")

SECONDS = 2
GROWTH_MB = 512


@pytest.fixture(scope="module")
def outcome(shared_data, tmp_path_factory):
    """What decode_files.py says of the corpus."""
    files = [str(p) for p in sorted((shared_data / "malformed").rglob("*")) if p.is_file()]
    assert len(files) == 502
    paths = tmp_path_factory.mktemp("malformed") / "paths.txt"
    paths.write_text("\n".join(files) + "\n")
    package = str(Path(NATIVE.__file__).parent.parent)  # the very build that this process tests
    program = Path(__file__).with_name("decode_files.py")
    done = subprocess.run(
        [sys.executable, str(program), str(paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": package},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    outcome = json.loads(done.stdout)
    assert outcome["extension"] == NATIVE.__file__
    return outcome


def results(outcome):
    return [(path, name, result) for path, both in outcome["files"].items() for name, result in both.items()]


def test_each_is_decoded_or_refused_with_words(outcome):
    refusals = [result["refusal"] for _, _, result in results(outcome)]
    assert len(refusals) == 2 * 502
    assert all(text is None or text.strip() for text in refusals)
    assert 0 < refusals.count(None) < len(refusals)


def test_none_takes_long(outcome):
    assert {(path, name): r["seconds"] for path, name, r in results(outcome) if r["seconds"] > SECONDS} == {}


def test_memory_stays_bounded(outcome):
    if outcome["growth_mb"] is None:
        pytest.skip("this system does not tell a process's peak memory")
    assert 0 < outcome["growth_mb"] < GROWTH_MB


def test_windows_of_what_decodes_equal_the_whole(outcome):
    wrong = {(path, name): r["wrong_windows"] for path, name, r in results(outcome) if r["wrong_windows"]}
    assert wrong == {}
