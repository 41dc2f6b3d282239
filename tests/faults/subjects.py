"""Programs that write files, on data small enough to try a fault at each of their operations."""

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deeplab_fast.storage.checkpoint import CheckpointFolder
from tests.download.test_command import archive_of, voc_files
from tests.faults.file_faults import KILL, NONE, Fault
from tests.faults.programs import Ended, Programs
from tests.faults.same import assert_same_files, assert_same_run, require

ON_CPU = ("--device_target=CPU", "--precision=fp32")
TRAIN = (
    *("--backbone=resnet18", "--crop_size=33", "--batch_size=4", "--num_classes=3", "--num_workers=1", *ON_CPU),
    *("--ema_decay=0.9", "--log_steps=2", "--max_steps=3", "--save_steps=2"),
    *("--keep_checkpoint_max=1", "--save_minutes=1e-9"),  # a checkpoint to continue from after each step
)
NAME = "out"  # of every folder: a model card says it
MODEL = "deeplab_v3_s16"
_TEMPORARY = re.compile(r"\.partial|\.lock$")  # what a killed program leaves to the next one, which removes it
SUBJECTS = (
    *("train", "train going on", "eval", "predict", "predict going on", "records", "records going on", "lists"),
    *("download", "export", "save_pretrained", "save_pretrained again"),
)


def on_samples(data: Path) -> list[str]:
    """Flags of training on the samples of a folder."""
    return [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--val_data_lst={data}/val.txt"]


@dataclass(frozen=True)
class Subject:
    """A program that writes below a folder.

    ``flags``: of the folder. ``inputs``: what it reads. ``begin``: puts into the folder what is there before it.
    ``same``: raises :class:`Lost` where its results differ from those of another folder. ``bears_inputs``: it does what
    it can without an input that cannot be read, and ends with 1.
    """

    name: str
    program: str
    flags: Callable[[Path], Sequence[object]]
    inputs: tuple[Path, ...]
    same: Callable[[Path, Path], None] = assert_same_files
    begin: Callable[[Path], object] = lambda folder: None
    before: Path | None = None
    bears_inputs: bool = False
    wholes: dict[str, Path] = field(default_factory=dict)

    def run(self, programs: Programs, folder: Path, fault: Fault = NONE, below: Path | None = None) -> Ended:
        """Run it with a fault among its operations below ``below``, by default its own folder."""
        return programs(
            self.program, self.flags(folder), fault.below(below or folder), XDG_CACHE_HOME=f"{folder}.cache"
        )

    def start(self, folder: Path) -> None:
        """Put into the folder what is there before the program."""
        folder.parent.mkdir(exist_ok=True)
        if self.before is not None:
            shutil.copytree(self.before, folder, symlinks=True)

    def keeps(self, folder: Path, whole: Path) -> None:
        """Raise :class:`Lost` where something that was there before is neither as it was nor as it was to become."""
        if self.before is None:
            return
        if self.program == "train":
            steps = [CheckpointFolder(f, MODEL, 1).newest().content["step"] for f in (folder, self.before)]
            require(steps[0] >= steps[1], f"step {steps[0]} of {steps[1]}")
            return
        for old in (path for path in self.before.rglob("*") if path.is_file() and not _TEMPORARY.search(path.name)):
            name = old.relative_to(self.before)
            allowed = [path.read_bytes() for path in (old, whole / name) if path.exists()]
            require((folder / name).is_file() and (folder / name).read_bytes() in allowed, name)


def make_subjects(programs: Programs, root: Path, data: Path) -> dict[str, Subject]:
    """Make the subjects by name; ``root`` is for what they read or find there."""
    run = root / "run"
    train = Subject("train", "train", lambda folder: [f"--train_dir={folder}", *on_samples(data), *TRAIN], (data,),
                    same=assert_same_run)  # fmt: skip
    ended = train.run(programs, run)
    assert ended.status == 0, ended.said
    begun = root / "begun"
    assert train.run(programs, begun, Fault(KILL, at=ended.points[2 * len(ended.points) // 3])).status == -9
    best = run / "best.pt"

    predict = ("--save=classes,overlay,probabilities,areas,polygons", *ON_CPU, f"--ckpt_path={best}")
    images = root / "images"
    shutil.copytree(data / "images", images, ignore=lambda _, names: sorted(names)[4:])
    archive = root / "voc.tar"
    archive.write_bytes(archive_of(voc_files(), "w"))

    subjects = [
        train,
        Subject("train going on", "train", train.flags, (data,), same=assert_same_run, before=begun),
        Subject("eval", "eval", lambda folder: [f"--ckpt_path={best}", f"--data_root={data}",
                f"--data_lst={data}/val.txt", f"--report={folder}", *ON_CPU], (data, run)),
        Subject("predict", "predict", lambda folder: [f"--input={images}", f"--output={folder}", *predict],
                (images, run), bears_inputs=True),
        Subject("records", "prepare", lambda folder: ["records", f"--data_root={data}", f"--data_lst={data}/train.txt",
                f"--dst_path={folder}/a.tar", "--num_shards=2", "--num_classes=3"], (data,)),
        Subject("lists", "prepare", lambda folder: ["lists", f"--data_root={data}", f"--image_dir={data}/images",
                f"--label_dir={data}/labels", f"--output={folder}"], (data,)),
        Subject("download", "download", lambda folder: [archive, folder], (archive,)),
        Subject("export", "export", lambda folder: [f"--ckpt_path={best}", "--format=mindspore",
                f"--output={folder}/m.ckpt"], (run,)),
        Subject("save_pretrained", "save_pretrained", lambda folder: [best, folder], (run,)),
    ]  # fmt: skip
    for name, ready in (("predict", 0.5), ("records", 0.5), ("save_pretrained", 1.0)):
        one = next(subject for subject in subjects if subject.name == name)
        before = root / f"before {name}" / NAME
        points = one.run(programs, root / f"count {name}" / NAME).points
        one.run(programs, before, Fault(KILL, at=points[int(ready * len(points)) - 1] if ready < 1 else 0))
        subjects.append(
            Subject(
                f"{name} {'going on' if ready < 1 else 'again'}",
                one.program,
                one.flags,
                one.inputs,
                before=before,
                bears_inputs=one.bears_inputs,
            )
        )
    return {subject.name: subject for subject in subjects}


def whole_of(subject: Subject, programs: Programs, root: Path) -> Path:
    """The folder of a run of the subject that nothing disturbed, made once."""
    if subject.name not in subject.wholes:
        folder = root / f"whole {subject.name}" / NAME
        subject.start(folder)
        ended = subject.run(programs, folder)
        assert ended.status == 0, ended.said
        subject.wholes[subject.name] = folder
    return subject.wholes[subject.name]
