"""The benchmark of prediction: what is compared before it is timed, and what is timed."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import predict
from deeplab_fast.errors import UserError
from deeplab_fast.prediction.inputs import find_inputs
from tests.prediction.networks import picture


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos of ü"
    folder.mkdir()
    for i in range(9):
        Image.fromarray(picture(40 + i, 60 - i, i)).save(folder / f"{i}.png")
    return folder


def test_both_write_the_same_classes_and_their_times_are_published(photos, tmp_path, capsys):
    out = tmp_path / "results"
    flags = [f"--input={photos}", f"--out={out}", "--backbone=resnet50", "--crop_size=33", "--images_at_once=2"]
    assert predict.main([*flags, "--device_target=CPU"]) == 0
    found = json.loads((out / "predict.json").read_text())
    assert found["images"] == 8
    assert found["compared"] == 40 * 60 + 41 * 59
    assert found["checks"][0]["could_fail"]
    assert found["timings"].keys() == {"ours", "torchvision-eager"}
    assert found["timings"]["ours"]["rounds"] == 4
    assert "Ours is faster by" in capsys.readouterr().out


def test_another_class_is_a_disagreement(tmp_path, photos):
    items = find_inputs(str(photos))[:2]
    folders = {name: tmp_path / name for name in (predict.OURS, predict.PEER)}
    exact = tmp_path / "exact"
    classes = (np.arange(2400) % 3).astype(np.uint8).reshape(40, 60)
    for folder in (*folders.values(), exact):
        folder.mkdir()
        for item in items:
            swapped = 2 - classes if folder.name == predict.OURS and item is items[1] else classes
            Image.fromarray(swapped).save(folder / f"{item.stem}.png")
    check, pixels = predict.agreement(items, folders, exact)
    assert check.failed
    assert check.could_fail
    assert (check.found, pixels) == (1600, 4800)
    assert not predict.agreement(items[:1], folders, exact)[0].failed
    Image.fromarray(np.where(classes == 2, 1, classes)).save(folders[predict.PEER] / f"{items[1].stem}.png")
    assert predict.agreement(items, folders, exact)[0].limit == 2 * 800  # of what the peer itself differs
    for folder in (*folders.values(), exact):
        Image.fromarray(np.zeros_like(classes)).save(folder / f"{items[0].stem}.png")
    assert not predict.agreement(items[:1], folders, exact)[0].could_fail  # all of one class


def test_too_few_images_are_named(photos):
    with pytest.raises(UserError, match="9 images; expected enough for 4 rounds of 3"):
        predict.main([f"--input={photos}", "--images_at_once=3"])
    with pytest.raises(UserError, match="--input: missing"):
        predict.main([])
