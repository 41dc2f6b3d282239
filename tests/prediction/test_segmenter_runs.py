"""A Segmenter that trains and that scores: the run and the figures are those of the command lines."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import deeplab_fast
from deeplab_fast import eval as evaluation
from deeplab_fast.errors import Interrupted, UserError
from deeplab_fast.prepare import records
from deeplab_fast.training import fit as fit_module
from tests.prediction.networks import NAMES, picture
from tests.trials.samples import CLASSES, write_samples

FLAGS = {"device_target": "CPU", "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"))


@pytest.fixture
def flags(tiny, data, tmp_path):
    """Keywords of a run of seconds."""
    sizes = {"backbone": "resnet18", "num_classes": CLASSES, "crop_size": 65, "batch_size": 4, "max_steps": 2}
    where = {"data_root": data, "data_lst": data / "train.txt", "train_dir": tmp_path / "run", "track": []}
    return {**FLAGS, **sizes, **where, "num_workers": 0}


def test_fit_gives_the_best_weights_and_goes_on(flags, data):
    run = flags["train_dir"]
    segment = deeplab_fast.Segmenter.fit(**flags, val_data_lst=data / "val.txt")
    assert segment.config.ckpt_path == str(run / "best.pt")
    assert (segment.config.precision, segment.config.crop_size) == ("fp32", 65)
    again = deeplab_fast.Segmenter(run, **FLAGS)
    image = picture(50, 60)
    assert np.array_equal(segment(image).probabilities, again(image).probabilities)
    went_on = deeplab_fast.Segmenter.fit(**flags | {"max_steps": 3, "resume": True}, val_data_lst=data / "val.txt")
    assert went_on.config.ckpt_path == str(run / "best.pt")
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 3
    found = segment.evaluate(data_root=data, data_lst=data / "val.txt")
    measured = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert found.scores.miou == next(line["miou"] for line in measured if line["step"] == 2 and "miou" in line)


def test_fit_of_a_configuration_without_held_out_data_gives_the_last_weights(flags, data):
    texts = {name: str(flags[name]) for name in ("data_root", "data_lst", "train_dir")}
    config = deeplab_fast.TrainConfig(**flags | texts | {"track": ()})
    segment = deeplab_fast.Segmenter.fit(config)
    assert Path(segment.config.ckpt_path).name == "deeplab_v3_s16-1_2.pt"
    with pytest.raises(UserError, match="max_steps: given beside a configuration; expected flags, or"):
        deeplab_fast.Segmenter.fit(config, max_steps=5)


def test_a_run_that_is_stopped_is_no_segmenter_yet(flags, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "_description", lambda run: os.kill(os.getpid(), signal.SIGINT) or "")
        with pytest.raises(Interrupted) as caught:
            deeplab_fast.Segmenter.fit(**flags)
    assert caught.value.number == signal.SIGINT
    assert Path(deeplab_fast.Segmenter.fit(**flags).config.ckpt_path).name == "deeplab_v3_s16-1_2.pt"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_sise": 3}, "crop_sise: unknown flag; did you mean crop_size?"),
        ({"crop_size": "large"}, "--crop_size='large': expected a whole number"),
        ({"data_lst": "none.txt"}, "none.txt"),
        ({"resume": True}, "run"),
    ],
)
def test_fit_refuses_what_train_refuses(flags, wrong, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        deeplab_fast.Segmenter.fit(**flags | wrong)


def test_sizes_may_be_auto(flags, data):
    segment = deeplab_fast.Segmenter.fit(**flags | {"crop_size": "auto", "max_steps": 1})
    assert segment.config.crop_size == 81  # of images 96 wide, at stride 16


def record_of(words, folder):
    """Return the metrics file of ``python -m deeplab_fast.eval``."""
    assert evaluation.main([*words, "--device_target=CPU", f"--report={folder}"]) == 0
    (path,) = folder.glob("metrics-*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("own", "asked", "words"),
    [
        ({}, {}, []),
        ({"batch_size": 3}, {"batch_size": 2, "boundary": True}, ["--boundary", "--batch_size=2"]),
        ({"flip": True, "scales_type": 1}, {}, ["--flip", "--scales_type=1"]),
        ({"flip": True}, {"flip": False, "window": 65}, ["--window=65"]),
        ({"window": 50}, {}, ["--window=50"]),
        ({"crop_size": 81}, {"protocol": "slide", "stride": 20}, ["--protocol=slide", "--crop_size=81", "--stride=20"]),
        ({"exif": "ignore"}, {"protocol": "torchvision", "base_size": 70}, ["--exif=ignore", "--protocol=torchvision"]),
        ({}, {"protocol": "mmseg", "test_scale": [200, 90]}, ["--protocol=mmseg", "--test_scale=200,90"]),
        ({}, {"precision": "bf16", "protocol": "whole"}, ["--precision=bf16", "--protocol=whole"]),
    ],
)
def test_figures_are_those_of_eval_to_the_bit(weights, data, tmp_path, own, asked, words, capsys):
    segment = deeplab_fast.Segmenter(weights, **FLAGS | own)
    found = segment.evaluate(data_root=data, data_lst=data / "val.txt", num_workers=0, **asked)
    if "base_size" in asked:
        words = [*words, "--base_size=70"]
    where = [f"--ckpt_path={weights}", f"--data_root={data}", f"--data_lst={data / 'val.txt'}", "--num_workers=0"]
    expected = record_of([*where, *words], tmp_path)
    del expected["images_file"]
    assert json.loads(json.dumps(found.record)) == expected
    assert found.scores.miou == expected["miou"] > 0
    assert f"{found}\n" in capsys.readouterr().out
    assert found.names == NAMES


def test_an_evaluation_leaves_the_segmenter_as_it_was(weights, data):
    segment, image = deeplab_fast.Segmenter(weights, **FLAGS), picture(50, 60)
    before = segment(image).probabilities
    segment.evaluate(data_root=data, data_lst=data / "val.txt", precision="bf16")
    assert np.array_equal(segment(image).probabilities, before)


@pytest.mark.parametrize(
    ("own", "asked", "message"),
    [
        ({}, {}, "--data_lst: missing; give --data_root and --data_lst, or --data_file"),
        ({}, {"backbone": "resnet50"}, "backbone: unknown flag"),
        ({}, {"device_target": "CPU"}, "device_target: unknown flag"),
        ({}, {"report": "x"}, "report: unknown flag"),
        ({}, {"protcol": "mmseg"}, "protcol: unknown flag; did you mean protocol"),
        ({}, {"protocol": "mmsegmentation"}, "--protocol=mmsegmentation: expected one of"),
        ({"window": 50}, {"protocol": "torchvision"}, "--window=50: not with --protocol=torchvision"),
        ({}, {"precision": "fp16", "data_lst": "x"}, "--precision=fp16: needs a GPU"),
        ({}, {"data_root": "none", "data_lst": "none.txt"}, "none.txt"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(weights, own, asked, message):
    with pytest.raises(UserError) as caught:
        deeplab_fast.Segmenter(weights, **FLAGS | own).evaluate(**asked)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_figures_go_into_the_card_with_their_protocol_and_only_of_these_weights(weights, data, tmp_path):
    segment = deeplab_fast.Segmenter(weights, **FLAGS)
    found = segment.evaluate(data_root=data, data_lst=data / "val.txt")
    (tmp_path / "metrics.json").write_text(json.dumps(found.record))
    for metrics in (found.record, tmp_path / "metrics.json", str(tmp_path / "metrics.json")):
        card = (segment.save_pretrained(tmp_path / "net", metrics=metrics) / "README.md").read_text()
        assert f"mIoU {found.scores.miou:.4f}, pixel accuracy {found.scores.pixel_accuracy:.4f}" in card
        assert "Measured on 2 images of val.txt in fp32, by the protocol recipe: crop_size 65;" in card
        assert all(f"| {name} | {iou:.4f} |" in card for name, iou in zip(NAMES, found.scores.iou, strict=True))
    assert str(data) not in card
    other = found.record | {"provenance": {"weights": "0"}}
    (tmp_path / "text").write_text("no")
    for metrics, message in (
        (other, "metrics: is of other weights than these"),
        (tmp_path / "text", "text: no JSON; expected a metrics file"),
        (tmp_path / "none", "none: cannot be read"),
        ({"miou": 0.5}, "metrics: expected a metrics file"),
    ):
        with pytest.raises(UserError, match=message):
            segment.save_pretrained(tmp_path / "net2", metrics=metrics)
    assert not (tmp_path / "net2").exists()


def test_records_are_taken_too(weights, data, tmp_path):
    where = [f"--data_root={data}", f"--data_lst={data / 'val.txt'}", f"--dst_path={tmp_path / 'v.tar'}"]
    records.main([*where, "--num_classes=3"])
    segment = deeplab_fast.Segmenter(weights, **FLAGS)
    one, other = (
        segment.evaluate(**given)
        for given in ({"data_file": tmp_path / "v.tar"}, {"data_root": data, "data_lst": data / "val.txt"})
    )
    assert np.array_equal(one.scores.confusion, other.scores.confusion)
