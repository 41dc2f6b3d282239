"""The sdist holds whatever the build reads: a wheel is built from it alone (``make wheels`` does)."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = (".so", ".pyc")


def wanted():
    """Sources, what is installed with them, and what the build itself is told by."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    yield from ("setup.py", "pyproject.toml", "README.md", "LICENSE")
    for path in [*(ROOT / "csrc").rglob("*"), *(ROOT / "deeplab_fast").rglob("*.py")]:
        if path.is_file() and path.suffix not in MADE:
            yield path.relative_to(ROOT).as_posix()
    for package, patterns in tools["package-data"].items():
        for pattern in patterns:
            found = list((ROOT / package.replace(".", "/")).glob(pattern))
            assert found, f"{package}: nothing is {pattern}"
            yield from (path.relative_to(ROOT).as_posix() for path in found)


def test_nothing_that_the_build_reads_is_left_out(tmp_path):
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (listed,) = tmp_path.glob("*.egg-info/SOURCES.txt")
    assert set(wanted()) - set(listed.read_text().splitlines()) == set()
