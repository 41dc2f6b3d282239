"""Programs to put faults into, and a run that nothing was done to."""

import filecmp
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deeplab_fast.data.written import MANIFEST
from tests.faults.programs import Ended, Programs, Request
from tests.faults.tiny import make_tiny
from tests.trials.conftest import save_network
from tests.trials.samples import write_samples

SMALL = (
    *("--backbone=resnet18", "--crop_size=33", "--batch_size=2", "--num_classes=3", "--num_workers=1"),
    *("--device_target=CPU", "--precision=fp32", "--ema_decay=0.9", "--log_steps=1", "--max_steps=5"),
    *("--save_steps=2", "--keep_checkpoint_max=2"),
)


@dataclass
class SmallPrograms:
    """Runs programs, and training on the samples of ``data``."""

    programs: Programs
    data: Path

    def __call__(self, program: str, argv: list[str], *faults: Request, **how: Any) -> Ended:
        return self.programs(program, argv, *faults, **how)

    def train(self, folder: Path, *faults: Request, more: tuple[str, ...] = (), **how: Any) -> Ended:
        lists = [f"--data_lst={self.data}/train.txt", f"--val_data_lst={self.data}/val.txt"]
        argv = [f"--train_dir={folder}", f"--data_root={self.data}", *lists, *SMALL, *more]
        return self.programs("train", argv, *faults, **how)


@pytest.fixture(scope="session")
def programs(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> SmallPrograms:
    """Run a program with faults put into it: ``programs("predict", argv, ("signals_at", [100, "SIGTERM"]))``."""
    data = write_samples(tmp_path_factory.mktemp("programs") / "data", count=8, size=(48, 40))
    return SmallPrograms(programs, data)


@pytest.fixture(scope="session")
def whole_run(programs: SmallPrograms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training run that nothing was done to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = programs.train(folder)
    assert ended.status == 0, ended.said
    return folder


@pytest.fixture(scope="session")
def goes_on(programs: SmallPrograms, whole_run: Path) -> Callable[[Path], None]:
    """Give the same command again, and compare what it leaves with the run that nothing was done to."""
    from tests.faults.same import assert_same_run

    def check(folder: Path) -> None:
        ended = programs.train(folder)
        assert ended.status == 0, ended.said
        assert_same_run(folder, whole_run)

    return check


@pytest.fixture(scope="session")
def commands(programs: SmallPrograms, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Programs by name, each with the flags of a small case; the last one names what is to be written."""
    folder = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        save_network(folder / "weights.pt", 0)
    (folder / "colours").mkdir()
    for path in programs.data.glob("labels/*.png"):
        shutil.copy(path, folder / "colours")
    data, weights = programs.data, f"--ckpt_path={folder / 'weights.pt'}"
    folders = [f"--image_dir={data}/images"]
    lists = [f"--data_root={data}", f"--data_lst={data}/val.txt", "--device_target=CPU", "--crop_size=33"]
    return {
        "predict": [weights, f"--input={data}/images", "--device_target=CPU", "--batch_size=2", "--output="],
        "eval": [weights, *lists, "--num_workers=1", "--report="],
        "export": [weights, "--format=mindspore", "--output="],
        "prepare records": [f"--data_root={data}", f"--data_lst={data}/train.txt", "--num_classes=3", "--dst_path="],
        "prepare lists": [f"--data_root={data}", *folders, f"--label_dir={data}/labels", "--output="],
        "prepare labels": [f"--input={folder}/colours", f"--data_root={folder.parent}", *folders, "--output="],
    }


def command(commands: dict[str, list[str]], name: str, folder: Path) -> tuple[str, list[str]]:
    """The program and its flags, that write below ``folder``, and where."""
    program, *words = name.split()
    folder.mkdir()
    target = folder / {"export": "model.ckpt", "prepare records": "train.tar"}.get(name, "out")
    return program, [*words, *commands[name][:-1], f"{commands[name][-1]}{target}"]


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def same(path: Path, expected: Path) -> bool:
    if path.suffix in (".pt", ".html", ".tar") or path.name.startswith(("metrics", "predict.json", MANIFEST)):
        return path.stat().st_size > 0  # hold where, when or how far they were made
    return filecmp.cmp(path, expected, shallow=False)
