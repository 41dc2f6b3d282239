"""The versions that are needed are said in one way everywhere, and anything else is refused in one line."""

import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deeplab_fast import requirements
from deeplab_fast.requirements import ALWAYS, NEWEST, OLDEST, TRITON_OF, release, unsupported, untested

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [name for name in OLDEST if name != "python"]


def noxfile():
    """The lists of noxfile.py that are written out; nox need not be there."""
    found = {}
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # made from others
                continue
    return found


def pythons():
    """Every series from the oldest Python to the newest."""
    (major, first), (_, last) = release(OLDEST["python"]), release(NEWEST["python"])
    return [f"{major}.{minor}" for minor in range(first, last + 1)]


def within(version, name):
    return release(OLDEST[name]) <= release(version) and release(version)[:2] <= release(NEWEST[name])


def test_pip_is_told_the_same():
    stated = {}
    for requirement in PROJECT["project"]["dependencies"]:
        name, oldest = re.match(r"([\w-]+)>=([\d.]+)", requirement).groups()
        stated[name] = oldest
    assert stated == {name: OLDEST[name] for name in PACKAGES}
    assert PROJECT["project"]["requires-python"] == f">={OLDEST['python']}"


def test_every_python_has_its_classifier_wheel_and_session():
    prefix = "Programming Language :: Python :: 3."
    said = [c.removeprefix(prefix) for c in PROJECT["project"]["classifiers"] if c.startswith(prefix)]
    assert [f"3.{minor}" for minor in said] == pythons()
    assert PROJECT["tool"]["cibuildwheel"]["build"].split() == [f"cp{p.replace('.', '')}-*" for p in pythons()]
    assert noxfile()["PYTHONS"] == pythons()
    assert PROJECT["tool"]["mypy"]["python_version"] == OLDEST["python"]


def test_the_sessions_try_the_oldest_and_the_newest():
    assert [next(iter(TRITON_OF)), *TRITON_OF.values()] == [OLDEST["torch"], OLDEST["triton"], NEWEST["triton"]]
    assert list(TRITON_OF)[-1] == NEWEST["torch"]
    assert noxfile()["NUMPYS"] == [OLDEST["numpy"], NEWEST["numpy"].split(".")[0]]
    assert all((ROOT / test.split("::")[0]).exists() for test in noxfile()["CHOSEN"])


def test_the_document_says_the_same():
    text = (ROOT / "docs/install.md").read_text()
    rows = dict(re.findall(r"^\| (Python|torch|Triton|NumPy|Pillow) \| ([^|]+?) \|", text, re.MULTILINE))
    assert rows["Python"] == f"{OLDEST['python']} to {NEWEST['python']}"
    assert rows["torch"] == " and ".join(TRITON_OF)
    assert rows["Triton"] == ", ".join(f"{triton} with torch {torch}" for torch, triton in TRITON_OF.items())
    assert rows["NumPy"] == f"{OLDEST['numpy']} to {NEWEST['numpy']}"
    assert rows["Pillow"] == f"{OLDEST['pillow']} or newer"
    assert re.search(r"Python (\S+) or newer", text).group(1) == OLDEST["python"]


def test_what_is_developed_with_is_within_them():
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    assert all(within(pins[name], name) for name in ("torch", "triton", "numpy"))
    assert all(release(pins[name]) >= release(OLDEST[name]) for name in PACKAGES)


def test_the_gpu_script_says_the_same():
    head = (ROOT / "benchmarks/gpu.sh").read_text()
    assert f"torch ({OLDEST['torch']} or newer) and Triton ({OLDEST['triton']} or newer)" in head


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.11.0+cu130", (2, 11, 0)), ("2.13.0a0+git12", (2, 13, 0)), ("6", (6,)), ("10.3.0", (10, 3, 0)), ("main", ())],
)
def test_the_numbers_of_a_version(version, numbers):
    assert release(version) == numbers


def pretend(monkeypatch, **versions):
    """Let these be installed; None: not at all."""
    known = {name: f"{OLDEST[name]}.0" for name in PACKAGES} | versions
    monkeypatch.setattr(requirements, "installed", known.get)
    monkeypatch.setattr(requirements, "_is_importable", lambda name: False)


def test_the_oldest_are_taken(monkeypatch):
    pretend(monkeypatch)
    assert unsupported() is None
    pretend(monkeypatch, pyyaml="6", numpy="10.0", torch="2.11.0a0+git", triton="3.10.1")
    assert unsupported() is None


@pytest.mark.parametrize("name", PACKAGES)
def test_one_that_is_too_old_is_named_with_the_version_wanted(name, monkeypatch):
    oldest = OLDEST[name]
    major, minor = (*release(oldest), 0)[:2]
    older = f"{major}.{minor - 1}.99" if minor else f"{major - 1}.99"
    pretend(monkeypatch, **{name: older})
    said = f"deeplab_fast needs {name} {oldest} or newer ({older} is installed): pip install '{name}>={oldest}'"
    assert unsupported() == said


def test_one_that_is_missing_is_refused_where_nothing_works_without_it(monkeypatch):
    pretend(monkeypatch, **dict.fromkeys(PACKAGES))
    said = unsupported()
    assert said is not None
    assert re.findall(r"(\w+) \S+ or newer \(it is not installed\)", said) == list(ALWAYS)
    monkeypatch.setattr(requirements, "_is_importable", lambda name: True)  # built from source, without metadata
    assert unsupported() is None


def test_newer_ones_are_named_and_let_through(monkeypatch):
    pretend(monkeypatch, torch="2.11.0", triton="3.6.0", numpy="1.26.4")
    assert untested() == []
    newer = {"torch": "3.0.0", "triton": "4.1.0", "numpy": "3.0.0"}
    pretend(monkeypatch, **newer)
    assert unsupported() is None
    assert [line.split(" is newer than ")[0] for line in untested()] == [f"{n} {v}" for n, v in newer.items()]


def test_a_triton_of_another_torch_is_named(monkeypatch):
    for torch, triton in itertools.product(TRITON_OF, TRITON_OF.values()):
        pretend(monkeypatch, torch=f"{torch}.1+cpu", triton=f"{triton}.9")
        lines = untested()
        assert (lines == []) == (TRITON_OF[torch] == triton), lines
    pretend(monkeypatch, torch="2.13.0", triton=None)
    assert untested() == []


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


@pytest.fixture
def old_torch(tmp_path):
    """A folder in which torch 2.10 is installed, as metadata alone; what is on the path first is taken."""
    (tmp_path / "torch-2.10.1.dist-info").mkdir()
    (tmp_path / "torch-2.10.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.10.1\n")
    return tmp_path


OLD_TORCH = "deeplab_fast needs torch 2.11 or newer (2.10.1 is installed): pip install 'torch>=2.11'\n"


@pytest.mark.parametrize("program", ["train", "prepare"])  # a module and a package
def test_a_program_says_it_in_one_line(program, old_torch):
    done = run("-m", f"deeplab_fast.{program}", "--help", PYTHONPATH=str(old_torch))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {OLD_TORCH}")


def test_as_a_library_it_is_an_import_error(old_torch):
    code = "try:\n import deeplab_fast.ops\nexcept ImportError as error:\n print(error)"
    done = run("-c", code, PYTHONPATH=str(old_torch))
    assert (done.returncode, done.stdout, done.stderr) == (0, OLD_TORCH, "")


def test_without_any_package_a_program_says_it_too():
    done = run("-S", "-m", "deeplab_fast.train")  # without site-packages
    assert done.returncode == 2
    assert re.fullmatch(r"error: deeplab_fast needs torch .*, numpy .*, pillow .*: pip install .*\n", done.stderr)


AS_OLD_PYTHON = """
import sys
sys.version_info, sys.version = (3, 9, 18), "3.9.18 (main)"
del sys.orig_argv  # newer than that
sys.argv = ["{name}"]
import deeplab_fast
"""


@pytest.mark.parametrize(("name", "status", "last"), [("-m", 2, "error: "), ("-c", 1, "ImportError: ")])
def test_an_old_python_is_refused(name, status, last):
    done = run("-S", "-c", AS_OLD_PYTHON.format(name=name))
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == f"{last}deeplab_fast needs Python 3.11 or newer; this is Python 3.9.18"


@pytest.mark.parametrize("name", ["__init__.py", "requirements.py"])
def test_an_old_python_can_read_what_refuses_it(name):
    ast.parse((ROOT / "deeplab_fast" / name).read_text(), feature_version=(3, 7))
