"""Programs that write files, on data small enough to try a fault at each of their operations."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deeplab_fast.data.written import MANIFEST
from deeplab_fast.storage.checkpoint import CheckpointFolder
from deeplab_fast.storage.video_files import can_read_videos
from tests.download.test_command import archive_of, sbd_files, voc_files
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
_CHANGES = re.compile(rf"\.partial|\.lock$|^{re.escape(MANIFEST)}$")  # what killed programs leave; notes, line by line
GOING_ON = {"predict": 0.5, "records": 0.5, "VOC lists": 0.7, "labels": 0.5, "video": 0.5}  # and where they were killed
AGAIN = ("save_pretrained", "convert")  # where their results are there already
SUBJECTS = (
    *(
        "train",
        "train going on",
        "eval",
        "eval of a URL",
        "predict",
        "records",
        "lists",
        "VOC lists",
        "labels",
        "download",
        "export",
    ),
    *("save_pretrained", "convert", "report again", "comparison", *(("video",) if can_read_videos() else ())),
    *(f"{name} going on" for name in GOING_ON if name != "video" or can_read_videos()),
    *(f"{name} again" for name in AGAIN),
)


def on_samples(data: Path) -> list[str]:
    """Flags of training on the samples of a folder."""
    return [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--val_data_lst={data}/val.txt"]


@dataclass(frozen=True)
class Subject:
    """A program that writes below a folder.

    ``flags``: of the folder. ``inputs``: what it reads. ``before``: what is in the folder before it. ``same``: raises
    :class:`Lost` where its results differ from those of another folder. ``bears_inputs``: it does what it can without
    an input that cannot be read, and ends with 1.
    """

    name: str
    program: str
    flags: Callable[[Path], Sequence[object]]
    inputs: tuple[Path, ...]
    same: Callable[[Path, Path], None] = assert_same_files
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
        for old in (path for path in self.before.rglob("*") if path.is_file() and not _CHANGES.search(path.name)):
            name = old.relative_to(self.before)
            allowed = [path.read_bytes() for path in (old, whole / name) if path.exists()]
            require((folder / name).is_file() and (folder / name).read_bytes() in allowed, name)


def write_inputs(root: Path, data: Path) -> Path:
    """Write what the programs read beside the samples in ``data``, into the folder that it returns."""
    given = root / "given"
    shutil.copytree(data / "images", given / "images", ignore=lambda _, names: sorted(names)[4:])
    shutil.copytree(data / "images", given / "unlabelled/images", ignore=lambda _, names: sorted(names)[2:])
    (given / "coco.json").write_text(json.dumps(outlines_of(given / "unlabelled/images")))
    (given / "voc.tar").write_bytes(archive_of(voc_files(), "w"))
    for name, content in {**voc_files(), **sbd_files()}.items():
        path = given / "voc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if can_read_videos():
        from tests.prediction.videos import pictures, write_video

        (given / "videos").mkdir()
        for name in "ab":
            write_video(given / f"videos/{name}.mp4", pictures(3), audio="aac")
    return given


def outlines_of(images: Path) -> dict[str, Any]:
    """COCO's content for the images: one outline in each, of two classes in turn."""
    paths = sorted(images.iterdir())
    outline = [8, 8, 60, 8, 60, 40, 8, 40]
    return {
        "images": [{"id": i, "file_name": path.name, "width": 96, "height": 80} for i, path in enumerate(paths)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": (3, 7)[i % 2], "segmentation": [outline], "iscrowd": 0}
            for i in range(len(paths))
        ],
    }


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
    given = write_inputs(root, data)
    images, videos, coco, archive = (given / name for name in ("images", "videos", "coco.json", "voc.tar"))
    records, other = root / "records", root / "other"

    def packing(part: str, folder: Path) -> list[str]:
        flags = [f"--data_root={data}", f"--data_lst={data}/{part}.txt", f"--dst_path={folder}/a.tar"]
        return ["records", *flags, "--num_shards=2", "--num_classes=3"]

    shutil.copytree(run, other)

    subjects = [
        train,
        Subject("train going on", "train", train.flags, (data,), same=assert_same_run, before=begun),
        Subject("eval", "eval", lambda folder: [f"--ckpt_path={best}", f"--data_root={data}",
                f"--data_lst={data}/val.txt", f"--report={folder}", *ON_CPU], (data, run)),
        Subject("eval of a URL", "eval", lambda folder: [f"--ckpt_path={best}", f"--record_cache={folder}/cache",
                f"--data_file={records.as_uri()}/a-{{00000..00001}}.tar", f"--report={folder}/report", *ON_CPU],
                (records, run)),
        Subject("predict", "predict", lambda folder: [f"--input={images}", f"--output={folder}", *predict],
                (images, run), bears_inputs=True),
        Subject("video", "predict", lambda folder: [f"--input={videos}", f"--output={folder}", *ON_CPU,
                f"--ckpt_path={best}"], (videos, run), bears_inputs=True),
        Subject("labels", "prepare", lambda folder: ["labels", f"--input={coco}", f"--image_dir={folder}/images",
                f"--output={folder}/labels"], (coco,), before=given / "unlabelled"),
        Subject("records", "prepare", lambda folder: packing("train", folder), (data,)),
        Subject("lists", "prepare", lambda folder: ["lists", f"--data_root={data}", f"--image_dir={data}/images",
                f"--label_dir={data}/labels", f"--output={folder}"], (data,)),
        Subject("VOC lists", "prepare", lambda folder: ["lists", f"--data_root={folder}"], (), before=given / "voc"),
        Subject("download", "download", lambda folder: [archive, folder], (archive,)),
        Subject("export", "export", lambda folder: [f"--ckpt_path={best}", "--format=mindspore",
                f"--output={folder}/m.ckpt"], (run,)),
        Subject("save_pretrained", "save_pretrained", lambda folder: [best, folder], (run,)),
        Subject("convert", "prepare", lambda folder: ["convert", best, f"--output={folder}/m.safetensors",
                "--overwrite=True"], (run,)),
        Subject("report again", "report", lambda folder: [folder], (), before=run),
        Subject("comparison", "report", lambda folder: [run, other, f"--output={folder}/page.html"], (run, other)),
    ]  # fmt: skip
    ended = programs("prepare", packing("val", records))
    assert ended.status == 0, ended.said
    for name, share in GOING_ON.items():
        one = next(subject for subject in subjects if subject.name == name)
        if name in SUBJECTS:
            subjects.append(replace(one, name=f"{name} going on", before=killed(one, programs, root, share), wholes={}))
    for name in AGAIN:
        one = next(subject for subject in subjects if subject.name == name)
        subjects.append(replace(one, name=f"{name} again", before=whole_of(one, programs, root), wholes={}))
    return {subject.name: subject for subject in subjects}


def killed(subject: Subject, programs: Programs, root: Path, share: float) -> Path:
    """The folder of a run of the subject that was killed at this share of its operations."""
    folder, counted = (root / f"{what} {subject.name}" / NAME for what in ("killed", "counted"))
    for one in (folder, counted):
        subject.start(one)
    points = subject.run(programs, counted).points
    assert subject.run(programs, folder, Fault(KILL, at=points[int(share * len(points)) - 1])).status == -9
    return folder


def whole_of(subject: Subject, programs: Programs, root: Path) -> Path:
    """The folder of a run of the subject that nothing disturbed, made once."""
    if subject.name not in subject.wholes:
        folder = root / f"whole {subject.name}" / NAME
        subject.start(folder)
        ended = subject.run(programs, folder)
        assert ended.status == 0, ended.said
        subject.wholes[subject.name] = folder
    return subject.wholes[subject.name]
