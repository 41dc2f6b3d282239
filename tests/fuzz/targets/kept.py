"""What this program wrote and reads again: a run's folder, whose page is drawn, and single files of JSON."""

import json

from deeplab_fast.compare.results import kept_result
from deeplab_fast.data.classes import read_class_names
from deeplab_fast.data.written import FORMAT, FORMER, MANIFEST, Written, digest
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.metrics_file import _content
from deeplab_fast.prediction.card import read_metrics
from deeplab_fast.report.training_page import write_report
from deeplab_fast.storage.log import METRICS, TIMING, JsonLines
from deeplab_fast.storage.mask_folder import DESCRIPTION_FILE, read_provenance, results_among
from deeplab_fast.storage.run_folder import CONFIG, EVALUATION, LOCK, REPORT, locked, results_in
from deeplab_fast.storage.video_files import is_cut_short
from tests.fuzz.mutation import mutate_json

from .parts import join, split
from .target import Target, mutate_parts

# ---------------------------------------------------------------- a run's folder

RUN_FILES = (METRICS, TIMING, f"{REPORT}/{EVALUATION}", LOCK, CONFIG)


def read_run_folder(data, folder):
    (folder / REPORT).mkdir()
    for name, content in zip(RUN_FILES, split(data, len(RUN_FILES)), strict=True):
        if content or name == CONFIG:
            (folder / name).write_bytes(content)
    refused = None
    try:
        write_report(folder, None)
    except UserError as error:
        refused = error
    results_in(folder)
    with locked(folder):
        for name in (METRICS, TIMING):
            JsonLines(folder / name, 2, lambda record: "miou" not in record).close()
    if refused:
        raise refused


def mutate_run_folder(data, generator, mutate_bytes, most):
    """Half of the mutations are of one line of a log."""
    if generator.random() < 0.5:
        return mutate_parts(len(RUN_FILES))(data, generator, mutate_bytes, most)
    parts = split(data, len(RUN_FILES))
    at = generator.randrange(2)
    lines = parts[at].splitlines(keepends=True) or [b"{}\n"]
    number = generator.randrange(len(lines))
    lines[number] = (mutate_json(lines[number], generator) or mutate_bytes(lines[number], 512)) + b"\n"
    parts[at] = b"".join(lines)
    return join(*parts)[:most]


def lines_of(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def run_seeds():
    steps = [{"step": n, "loss": 1.0 / n, "lr": 0.1} for n in (1, 2, 3)]
    figures = {"miou": 0.5, "pixel_accuracy": 0.75, "per_class_iou": {"a": 0.5, "b": None}}
    evaluations = [{"step": n, **figures} for n in (2, 3)]
    timing = [{"step": 2, "step_ms": 5.0, "data_ms": 1.0, "data_share": 0.1, "images_per_s": 9.0, "max_memory_mb": 3}]
    config = json.dumps({"num_classes": 2, "backbone": "resnet18", "seed": 0, "steps": 3}).encode()
    kept = {"step": 3, "protocol": {"name": "whole"}, "images": 2, "skipped": [], "classes": ["a", "b"]}
    kept |= {"confusion_matrix": [[3, 1], [0, 4]], "precision": "fp32", "versions": {"torch": "2"}}
    kept |= {"miou_by_sample": [[0, 0.5], [1, 0.25]]}
    metrics = lines_of(*steps, *evaluations)
    yield "whole", join(metrics, lines_of(*timing), json.dumps(kept).encode(), b"process 1 on x\n", config)
    yield "begun", join(lines_of(steps[0]), b"", b"", b"", config)
    yield "torn", join(metrics[:-9], lines_of(*timing)[:-2], b"", b"", config)
    yield "numbers", join(lines_of({"step": 10**400, "loss": 10**400, "lr": 1e300}), b"", b"", b"", b"{}")
    yield "nested", join(b'{"step": 1, "x": ' + b"[" * 3000 + b"\n" + metrics, b"", b"", b"", config)


# ---------------------------------------------------------------- single files


def _manifest(path):
    """Whatever there is in place of notes, what is written after them is known."""
    path.rename(path.with_name(MANIFEST))
    (named := path.with_name("a.png")).write_bytes(b"label")
    written = Written(path.parent)
    written.source(named)
    written.write(path, b"new", "source")
    assert Written(path.parent).source(path) == "source"
    written.save()
    assert Written(path.parent).source(path) == "source"


def _description(path):
    path.rename(path.with_name(DESCRIPTION_FILE))
    results_among([path.with_name("a.png")], path.parent, is_root=True)
    read_provenance(path.parent)


READERS = (
    lambda path: kept_result(path, {"flags": {"a": 1}, "torch": "2"}),
    _content,
    lambda path: read_metrics(path, "0"),
    _manifest,
    _description,
    read_class_names,
    is_cut_short,
)


def read_kept(data, folder):
    """The first byte chooses the reader."""
    path = folder / "x"
    path.write_bytes(data[1:])
    READERS[data[0] % len(READERS) if data else 0](path)


def mutate_kept(data, generator, mutate_bytes, most):
    mutated = mutate_json(data[1:], generator) if generator.random() < 0.6 else None
    return (data[:1] + (mutated or mutate_bytes(data[1:], most)))[:most]


def kept_seeds():
    figures = dict.fromkeys(("seconds", "images_per_s", "cpu_seconds", "peak_memory_mb", "miou"), 1.0)
    result = {**figures, "pixel_accuracy": 1.0, "steps": 3, "images_seen": 9, "made_from": {"flags": {"a": 2}}}
    metrics = {"images": 2, "data": "x", "precision": "fp32", "pixel_accuracy": 0.5, "miou": None}
    metrics |= {"protocol": {"name": "whole"}, "provenance": {"weights": "0"}, "per_class_iou": {"a": 0.5, "b": None}}
    files = {"a.png": [digest(b"label"), "1" * 64], "x": ["0" * 64, ""]}
    contents = (result, {"provenance": {"a": 1}, "images_file": "x"}, metrics, {"format": FORMER, "files": files},
                {"provenance": {"weights": "0"}})  # fmt: skip
    for number, content in enumerate(contents):
        yield f"json-{number}", bytes([number]) + json.dumps(content).encode()
        yield f"nested-{number}", bytes([number]) + b"[" * 3000
    notes = [{"format": FORMAT}, *([name, *digests] for name, digests in files.items())]
    yield "notes", b"\3" + b"".join(json.dumps(line).encode() + b"\n" for line in notes)
    yield "notes-torn", b"\3" + b"".join(json.dumps(line).encode() + b"\n" for line in notes)[:-9]
    yield "names", b"\5\xef\xbb\xbfbackground\r\ncaf\xc3\xa9\r\n\r\n"
    box = (24).to_bytes(4, "big") + b"ftypisom" + bytes(12)
    yield "mp4", b"\6" + box + (1).to_bytes(4, "big") + b"mdat" + (64).to_bytes(8, "big") + bytes(9)
    yield "matroska", b"\6\x1aE\xdf\xa3\x84\0\0\0\0\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(9)
    yield "avi", b"\6RIFF\x40\0\0\0AVI LIST"


TARGETS = (
    # The page has the data of every curve in it, and a confusion matrix of as many classes as the file has names.
    Target("run_folders", read_run_folder, run_seeds, mutate_run_folder, cpu_seconds=4, megabytes=64),
    Target("kept_files", read_kept, kept_seeds, mutate_kept, cpu_seconds=2, megabytes=64),
)
