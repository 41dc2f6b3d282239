"""Results: targets are checked before the work, and evaluations do not replace each other."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trials.samples import write_samples

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def samples(tmp_path):
    """Half as many samples as the other trials have, and smaller."""
    return write_samples(tmp_path / "data", count=6, size=(48, 40))


# ---------------------------------------------------------------- D2: targets are checked before the work


@pytest.fixture
def evaluate(call, networks, samples):
    def run(*flags, network=networks[0], data=("val.txt", samples)):
        lists = [f"--data_root={data[1]}", f"--data_lst={data[1] / data[0]}", "--num_workers=0", "--batch_size=4"]
        return call("eval", f"--ckpt_path={network}", *lists, *flags)

    return run


@pytest.fixture
def no_work(monkeypatch):
    """Whoever begins the work fails."""

    def forbid(*args, **options):
        pytest.fail("the work was begun")

    monkeypatch.setattr("deeplab_fast.eval.evaluate_labelled", forbid)
    monkeypatch.setattr("deeplab_fast.prediction.network.score_images", forbid)
    monkeypatch.setattr("torch.export.export", forbid)


@pytest.mark.parametrize("below", ["", "below"])
def test_d2_a_report_that_is_a_file_is_found_before_the_evaluation(evaluate, no_work, tmp_path, below):
    (tmp_path / "report").write_text("mine")
    ended = evaluate(f"--report={tmp_path / 'report' / below}")
    assert ended.status == 2
    assert f"--report={tmp_path / 'report' / below}: {tmp_path / 'report'} is not a folder" in ended.error
    assert (tmp_path / "report").read_text() == "mine"


def test_d2_a_checkpoint_in_a_read_only_folder_is_found_before_the_evaluation(evaluate, no_work, networks, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    ended = evaluate()
    assert ended.status == 2
    assert "the checkpoint's folder (--report=DIR takes another): cannot be written (Read-only file sys" in ended.error


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_d2_the_figures_are_printed_where_they_cannot_be_written(evaluate, tmp_path, monkeypatch):
    write = Path.write_text

    def full(self, *args, **options):
        if self.suffix == ".json":
            raise NO_SPACE
        return write(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        ended = evaluate(f"--report={tmp_path / 'report'}")
    assert ended.status == 2
    assert "pixel accuracy" in ended.out
    assert ended.error.endswith("cannot be written (No space left on device); the figures are printed above")
    assert list((tmp_path / "report").iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "file/model.pt2", "one.pt"])
def test_d2_an_export_finds_what_is_in_its_way_before_the_work(call, networks, no_work, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    shutil.copy(networks[0], tmp_path / "one.pt")
    flags = [f"--ckpt_path={tmp_path / 'one.pt'}", "--format=pt2", f"--output={tmp_path / name}"]
    ended = call("export", *flags)
    assert ended.status == 2
    reasons = {"folder": "is a folder", "file/model.pt2": "file is not a folder", "one.pt": "is the checkpoint itself"}
    assert reasons[name] in ended.error
    assert (tmp_path / "one.pt").read_bytes() == networks[0].read_bytes()


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_d2_a_failed_export_leaves_the_earlier_file(networks, tmp_path, monkeypatch):
    from deeplab_fast import export
    from deeplab_fast.errors import UserError
    from deeplab_fast.exporting import agreement

    (tmp_path / "model.pt2").write_text("an earlier model")
    monkeypatch.setattr(agreement, "DIFFERENCE", -1.0)
    flags = [f"--ckpt_path={networks[0]}", "--format=pt2", "--crop_size=33", f"--output={tmp_path / 'model.pt2'}"]
    with pytest.raises(UserError, match="not written; probabilities agree within"):
        export.main(flags)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"model.pt2": "an earlier model"}


def test_d2_predict_finds_what_is_in_its_way_before_the_work(predict, no_work, tmp_path):
    (tmp_path / "out").write_text("mine")
    ended = predict()
    assert ended.status == 2
    assert f"--output={tmp_path / 'out'}: {tmp_path / 'out'} is not a folder" in ended.error


# ---------------------------------------------------------------- D3: evaluations do not replace each other


def figures(folder):
    return {p.name: json.loads(p.read_text())["images"] for p in folder.glob("*.json")}


def test_d3_an_evaluation_is_named_after_checkpoint_data_and_protocol(evaluate, tmp_path):
    for data in ("val.txt", "train.txt"):
        for flags in ([], ["--flip=True"]):
            assert evaluate(f"--report={tmp_path / 'r'}", *flags, data=(data, tmp_path / "data")).status == 0
    assert figures(tmp_path / "r") == {
        "metrics-one-val.json": 2,
        "metrics-one-val-flip.json": 2,
        "metrics-one-train.json": 4,
        "metrics-one-train-flip.json": 4,
    }


def test_d3_the_same_evaluation_takes_its_own_place(evaluate, tmp_path):
    for flags in ([], ["--batch_size=1", "--num_workers=1", "--fused=off"]):  # none of which makes it another
        ended = evaluate(f"--report={tmp_path / 'r'}", *flags)
        assert f"metrics {tmp_path}/r/metrics-one-val.json\n" in ended.out
    assert figures(tmp_path / "r") == {"metrics-one-val.json": 2}


@pytest.mark.parametrize(
    ("kind", "why"), [("weights", "weights"), ("root", "data"), ("labels", "labelled_pixels"), ("file", "another file")]
)
def test_d3_another_evaluation_of_the_same_name_stays(evaluate, networks, tmp_path, kind, why):
    report, other, network = tmp_path / "r", tmp_path / "data", tmp_path / "one.pt"
    shutil.copy(networks[0], network)
    report.mkdir()
    if kind == "file":
        (report / "metrics-one-val.json").write_text("[1]")
    else:
        evaluate(f"--report={report}", network=network)
    if kind == "weights":
        shutil.copy(networks[1], network)
    if kind == "root":
        other = write_samples(tmp_path / "other" / "data", count=6, size=(64, 48))
    if kind == "labels":
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(other / "labels/05.png")
    before = (report / "metrics-one-val.json").read_bytes()
    ended = evaluate(f"--report={report}", network=network, data=("val.txt", other))
    assert ended.status == 0
    assert (report / "metrics-one-val.json").read_bytes() == before
    assert figures_of_second(report)["images"] == 2
    assert f"metrics-one-val.json stays: {'it is' if kind == 'file' else 'this one differs in'} {why}" in ended.err


def figures_of_second(report):
    return json.loads((report / "metrics-one-val-2.json").read_text())
