"""Write what a version leaves behind and promises: ``python -m tests.compatibility.make_files``.

Records, and a run over them that ended after half its steps: its checkpoint, weights, log and configuration; then what
the same version did with them, and its flags and custom ops, for later ones to be held against. To be run only where
one of them is changed on purpose; the commit says what users have to do.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import deeplab_fast
from deeplab_fast.prepare import COMMANDS
from tests.trials.samples import small, write_samples

HERE = Path(__file__).parent
FILES = HERE / "files"
REPO = HERE.parent.parent
STEPS = 4  # of the run that is committed
END = 8  # where it is continued to

# The same instructions on every x86-64 machine that trains at all: sums in the same order, so the same bits.
ARITHMETIC = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def train(folder: Path, steps: int) -> None:
    """Train, or continue, the tiny network over ``folder/train.tar`` in ``folder/run``, to ``steps`` steps."""
    flags = small(f"--max_steps={steps}", "--eval_epochs=1", "--save_steps=4", "--log_steps=1", "--ema_decay=0.9")
    # From within, so that no path of one machine gets into what is committed.
    paths = ["--train_dir=run", "--data_file=train.tar", "--val_data_file=val.tar"]
    environment = {**os.environ, **ARITHMETIC, "PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "tests.faults.tiny", *paths, *flags]
    subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)


def outcome(folder: Path) -> dict[str, object]:
    """Return what a run came to: its figures by step, and a digest of each kind of state in its last checkpoint."""
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    newest = max((folder / "run").glob("deeplab_v3_s16-*.pt"), key=lambda path: path.stat().st_mtime)
    content = torch.load(newest, weights_only=True)
    states = {name: digest(value) for name, value in content.items() if isinstance(value, dict) and digest(value)}
    return {"metrics": lines, "step": content["step"], "states": states, "keys": sorted(content), "name": newest.name}


def interface() -> dict[str, object]:
    """The names that commands and graphs of users hold: every program's flags, every custom op's schema."""
    prepare = [f"prepare {command}" for command in COMMANDS]
    programs = ("train", "eval", "predict", "export", "report", "compare", *prepare, "runtime")
    flags = {name: sorted(set(re.findall(r"^  --(\w+)", text_of_help(name), re.MULTILINE))) for name in programs}
    for module in pkgutil.walk_packages(deeplab_fast.__path__, "deeplab_fast."):
        if not module.name.endswith("._C"):
            importlib.import_module(module.name)
    schemas = [str(schema) for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("deeplab_fast::")]
    return {"flags": flags, "ops": sorted(schemas)}


def text_of_help(program: str) -> str:
    name, *command = program.split()
    package = importlib.import_module(f"deeplab_fast.{name}")
    module = importlib.import_module(f"deeplab_fast.{name}.__main__") if hasattr(package, "__path__") else package
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        module.main([*command, "--help"])
    return text.getvalue()


def digest(state: dict) -> str:
    """SHA-256 of the tensors of a state dict, names included; empty where it has none."""
    tensors = {name: value for name, value in sorted(flat(state).items()) if isinstance(value, torch.Tensor)}
    seen = hashlib.sha256()
    for name, tensor in tensors.items():
        seen.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        seen.update(tensor.numpy().tobytes())
    return seen.hexdigest() if tensors else ""


def flat(state: object, name: str = "") -> dict[str, object]:
    """Every leaf of nested dicts and lists by its path."""
    if not isinstance(state, dict | list | tuple):
        return {name: state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {path: leaf for key, value in items for path, leaf in flat(value, f"{name}/{key}").items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_samples(folder)
        for name in ("train", "val"):
            flags = [f"--data_root={folder}", f"--data_lst={folder / name}.txt", f"--dst_path={folder / name}.tar"]
            subprocess.run(
                [sys.executable, "-m", "deeplab_fast.prepare", "records", "--num_classes=3", "--num_shards=2", *flags],
                check=True,
                cwd=REPO,
            )
        train(folder, STEPS)
        shutil.rmtree(FILES, ignore_errors=True)
        kept = shutil.ignore_patterns("images", "labels", "*.txt", "report", "events*", "timing.jsonl", ".*")
        shutil.copytree(folder, FILES, ignore=kept)
        train(folder, END)
        (FILES / "outcome.json").write_text(json.dumps(outcome(folder), indent=1) + "\n")
    (FILES / "interface.json").write_text(json.dumps(interface(), indent=1) + "\n")


if __name__ == "__main__":
    main()
