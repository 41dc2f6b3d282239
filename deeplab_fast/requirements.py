"""The versions that this package needs, in one table, and what is said where something else is found.

The package reads it when it is imported, noxfile.py and the tests read it too. It imports nothing of the package and
none of what it looks up, and Python 3.7 can run it: one that is too old has to say so.
"""

from __future__ import annotations

import re
import sys

# Older ones are refused. pyproject.toml says the same to pip.
OLDEST = {
    "python": "3.11",
    "torch": "2.11",
    "triton": "3.6",
    "numpy": "1.26",
    "pillow": "10.3",
    "scipy": "1.11",
    "pyyaml": "6",
    "tqdm": "4.66",
    "matplotlib": "3.8",
    "jinja2": "3.1",
    "tensorboard": "2.16",
    "safetensors": "0.4",
    "msgpack": "1.0",
}
# Nothing works without them. Of the others each is imported where it is needed; Triton is not made for every machine.
ALWAYS = ("torch", "numpy", "pillow")
# The newest series that the sessions of noxfile.py have run with. Newer ones are let through; a run's log says so.
NEWEST = {"python": "3.13", "torch": "2.13", "triton": "3.7", "numpy": "2.5"}
# A release of torch is made for one series of Triton. These pairs are tested.
TRITON_OF = {"2.11": "3.6", "2.13": "3.7"}


def release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: those of ``2.11.0a0+cu130`` are 2, 11 and 0."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found.group().split(".")) if found else ()


def unsupported() -> str | None:
    """Return one line that names what is missing or too old and what was expected; None where nothing is."""
    if sys.version_info[:2] < release(OLDEST["python"]):
        return f"deeplab_fast needs Python {OLDEST['python']} or newer; this is Python {sys.version.split()[0]}"
    found = [(name, _wrong_with(name)) for name in OLDEST if name != "python"]
    wrong = [f"{name} {OLDEST[name]} or newer ({what})" for name, what in found if what]
    if not wrong:
        return None
    wanted = " ".join(f"'{name}>={OLDEST[name]}'" for name, what in found if what)
    return f"deeplab_fast needs {', '.join(wrong)}: pip install {wanted}"


def _wrong_with(name: str) -> str | None:
    version = installed(name)
    if version is None:
        return "it is not installed" if name in ALWAYS and not _is_importable(name) else None
    numbers = release(version)
    return f"{version} is installed" if numbers and numbers < release(OLDEST[name]) else None


def installed(name: str) -> str | None:
    """Return the version of an installed package, from its metadata; None where none says so."""
    import importlib.metadata  # not in every Python that reads this file

    try:
        return importlib.metadata.version(name) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):  # KeyError: metadata that a broken upgrade left
        return None


def _is_importable(name: str) -> bool:
    """Tell whether a package without metadata is there all the same: built from source and put on the path."""
    import importlib.util

    return importlib.util.find_spec({"pillow": "PIL"}.get(name, name)) is not None


def untested() -> list[str]:
    """Return, one a line, the versions here that are newer than what was tested, or do not belong together."""
    here = {name: sys.version.split()[0] if name == "python" else installed(name) for name in NEWEST}
    lines = []
    for name, newest in NEWEST.items():
        version = here[name]
        if version and release(version)[: len(release(newest))] > release(newest):
            lines.append(f"{name} {version} is newer than {newest}, the newest that this version was tested with")
    triton = TRITON_OF.get(_series(here["torch"]))
    if triton and here["triton"] and _series(here["triton"]) != triton:
        lines.append(f"triton {here['triton']} is not the series that torch {here['torch']} is made for, {triton}")
    return lines


def _series(version: str | None) -> str:
    return ".".join(str(number) for number in release(version or "")[:2])
