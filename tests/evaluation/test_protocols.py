"""Each protocol against an independent version in torchvision, OpenCV and plain torch, a window at a time."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.peers import import_torchvision
from deeplab_fast import eval as program
from deeplab_fast.config import EvalConfig
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.evaluator import evaluate
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.evaluation.protocols import protocol_of
from deeplab_fast.evaluation.settings import Settings
from tests.faults.tiny import make_tiny
from tests.prediction.networks import NAMES, network, picture, save_network

CPU = torch.device("cpu")
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
SIZES = [(50, 70), (70, 50), (33, 33), (50, 70)]  # two are alike: they go through the network together
FLAGS = {
    "recipe": {},
    "torchvision": {"base_size": 65},
    "mmseg": {"test_scale": (150, 60)},
    "whole": {},
    "slide": {"stride": 20},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        network.cache_clear()
        yield save_network(tmp_path_factory.mktemp("protocols") / "best.pt", 33, names=NAMES)
        network.cache_clear()


@pytest.fixture(scope="module")
def model(checkpoint):
    return trained_model(EvalConfig, {"ckpt_path": str(checkpoint)})[1]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    lines = []
    for i, size in enumerate(SIZES):
        Image.fromarray(picture(*size, i)).save(folder / f"{i}.png")
        label = (picture(*size, 9 + i)[..., 0] // 86).astype(np.uint8)
        label[:3] = 255
        Image.fromarray(label).save(folder / f"{i}_label.png")
        lines.append(f"{i}.png {i}_label.png\n")
    (folder / "val.txt").write_text("".join(lines))
    return folder


def network_input(image):
    return ((torch.from_numpy(np.asarray(image, np.float32)) - MEAN) / STD).permute(2, 0, 1)[None]


def half_up(values):
    """Round as our resize does: at these sizes one value in thirty lies halfway, where OpenCV in float goes to even."""
    return np.floor(values + 0.5)


def torchvision_way(model, image, label):
    """Shorter side of both to 65, by torchvision's own transforms of Pillow's images."""
    import_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    x = transforms.to_tensor(transforms.resize(image, 65))
    x = transforms.normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    truth = transforms.resize(label, 65, InterpolationMode.NEAREST)
    return model.predict(x[None]).argmax(1)[0], np.array(truth)


def mmseg_way(model, image, label):
    """Within 150 x 60 by OpenCV; scores to the size that the network saw, then to the image's own."""
    width, height = image.size
    factor = min(150 / max(width, height), 60 / min(width, height))
    size = (int(width * factor + 0.5), int(height * factor + 0.5))
    x = network_input(half_up(cv2.resize(np.asarray(image, np.float32), size)))
    scores = F.interpolate(model.predict(x), (height, width), mode="bilinear", align_corners=True)
    return scores.argmax(1)[0], np.asarray(label)


def whole_way(model, image, label):
    return model.predict(network_input(image)).argmax(1)[0], np.asarray(label)


def slide_way(model, image, label, crop=33, stride=20):
    x = network_input(image)
    height, width = x.shape[2:]
    total, count = torch.zeros(1, 3, height, width), torch.zeros(height, width)
    for row in range(max(height - crop + stride - 1, 0) // stride + 1):
        for column in range(max(width - crop + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            part = slice(max(bottom - crop, 0), bottom), slice(max(right - crop, 0), right)
            total[:, :, part[0], part[1]] += model.predict(x[:, :, part[0], part[1]])
            count[part] += 1
    return (total / count).argmax(1)[0], np.asarray(label)


WAYS = {"torchvision": torchvision_way, "mmseg": mmseg_way, "whole": whole_way, "slide": slide_way}


@torch.no_grad()
def independent(way, model, samples):
    counts = np.zeros((3, 3), np.int64)
    for i in range(len(SIZES)):
        image, label = (Image.open(samples / name) for name in (f"{i}.png", f"{i}_label.png"))
        classes, truth = way(model, image, label)
        valid = truth != 255
        np.add.at(counts, (truth[valid], classes.numpy()[valid]), 1)
    return counts


def ours(name, model, samples, batch_size=4, **flags):
    config = EvalConfig(protocol=name, crop_size=33, **{**FLAGS[name], **flags})
    source = list_source(samples, samples / "val.txt")
    return evaluate(model, source, protocol_of(config), Settings(3, 255, CPU, batch_size)).confusion


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("name", WAYS)
def test_equals_the_independent_version_s(name, batch_size, model, samples):
    found, expected = ours(name, model, samples, batch_size), independent(WAYS[name], model, samples)
    assert np.array_equal(found.sum(1), expected.sum(1))
    assert np.abs(found - expected).sum() <= 0.002 * expected.sum()  # near ties, of a batch of another size
    assert (found.sum(0) > 0).sum() > 1


def test_the_protocols_differ_by_more_than_the_tolerance(model, samples):
    """Or the test above could not tell them apart."""
    shares = {name: counts / counts.sum() for name in FLAGS for counts in [ours(name, model, samples)]}
    for name, a in shares.items():
        for other, b in shares.items():
            assert name == other or np.abs(a - b).sum() > 0.004, (name, other)


@torch.no_grad()
def test_mmseg_s_scales_and_mirrors_are_a_mean_of_probabilities(model, samples):
    found = ours("mmseg", model, samples, scales_type=1, flip=True)
    counts = np.zeros((3, 3), np.int64)
    for i, (height, width) in enumerate(SIZES):
        image, label = (np.array(Image.open(samples / name)) for name in (f"{i}.png", f"{i}_label.png"))
        total = 0
        for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75):
            factor = min(int(150 * ratio) / max(width, height), int(60 * ratio) / min(width, height))
            size = (int(width * factor + 0.5), int(height * factor + 0.5))
            x = network_input(half_up(cv2.resize(image.astype(np.float32), size)))
            for mirrored in (False, True):
                scores = model.predict(x.flip(-1) if mirrored else x)
                p = F.interpolate(scores, (height, width), mode="bilinear", align_corners=True).softmax(1)
                total = total + (p.flip(-1) if mirrored else p)
        valid = label != 255
        np.add.at(counts, (label[valid], total.argmax(1)[0].numpy()[valid]), 1)
    assert np.abs(found - counts).sum() <= 0.002 * counts.sum()
    assert np.abs(found - ours("mmseg", model, samples)).sum() > 0.01 * counts.sum()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--protocol=torchvision", "--flip=True"],
            "--flip=True: not with --protocol=torchvision; expected --protocol=re",
        ),
        (["--protocol=torchvision", "--scales_type=1"], "--scales_type=1: not with --protocol=torchvision"),
        (["--protocol=mmseg", "--window=65"], "--window=65: not with --protocol=mmseg; expected --protocol=recipe"),
        (["--protocol=whole", "--crop_size=65"], "--crop_size=65: not with --protocol=whole"),
        (["--protocol=whole", "--compile"], "--compile=True: not with --protocol=whole"),
        (["--base_size=400"], "--base_size=400: not with --protocol=recipe; expected --protocol=torchvision"),
        (["--protocol=slide", "--stride=40"], "--stride=40: windows of --crop_size=33 would leave pixels out"),
        (["--protocol=mmseg", "--test_scale=512"], "--test_scale=512: expected two sides, the longer first"),
        (["--protocol=mmseg", "--test_scale=512,2048"], "--test_scale=512,2048: expected two sides, the longer"),
        (["--protocol=paddle"], "--protocol=paddle: expected one of recipe, torchvision, mmseg, whole, slide"),
    ],
)
def test_flags_of_another_protocol_are_refused(flags, message, checkpoint, samples, tmp_path):
    data = [f"--data_root={samples}", f"--data_lst={samples / 'val.txt'}", f"--report={tmp_path}"]
    with pytest.raises(UserError) as error:
        program.main([f"--ckpt_path={checkpoint}", *data, "--device_target=CPU", *flags])
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FLAGS)
def test_the_protocol_is_in_the_file_its_name_and_the_table(name, checkpoint, samples, tmp_path, capsys):
    flags = [f"--{key}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for key, v in FLAGS[name].items()]
    data = [f"--data_root={samples}", f"--data_lst={samples / 'val.txt'}", f"--report={tmp_path}"]
    program.main(
        [f"--ckpt_path={checkpoint}", *data, "--num_workers=0", "--device_target=CPU", f"--protocol={name}", *flags]
    )
    part = "" if name == "recipe" else f"-{name}"
    record = json.loads((tmp_path / f"metrics-best-val{part}.json").read_text())
    assert record["protocol"]["name"] == name
    assert record["protocol"]["resize"]
    for key, value in FLAGS[name].items():
        assert record["protocol"][key] == (list(value) if isinstance(value, tuple) else value)
    assert record["provenance"]["flags"].get("protocol", "recipe") == name
    assert f"protocol {name}: " in capsys.readouterr().out
    assert record["images_file"] == f"metrics-best-val{part}-images.csv"
    rows = (tmp_path / record["images_file"]).read_text().splitlines()
    assert rows[0] == "sample,image,miou,pixel_accuracy,labelled_pixels"
    assert [row.split(",")[:2] for row in rows[1:]] == [[str(i), str(i)] for i in range(4)]
    assert sum(int(row.split(",")[-1]) for row in rows[1:]) == np.sum(record["confusion_matrix"])


def test_an_image_too_narrow_for_torchvision_s_size_is_named(checkpoint, tmp_path):
    Image.new("RGB", (2000, 1)).save(tmp_path / "narrow.png")
    Image.new("L", (2000, 1)).save(tmp_path / "label.png")
    (tmp_path / "val.txt").write_text("narrow.png label.png\n")
    data = [f"--data_root={tmp_path}", f"--data_lst={tmp_path / 'val.txt'}", f"--report={tmp_path / 'r'}"]
    with pytest.raises(UserError, match=r"narrow\.png: 1040000x520 pixels with a shorter side of 520; expected at"):
        program.main([f"--ckpt_path={checkpoint}", *data, "--device_target=CPU", "--protocol=torchvision"])


def test_the_head_s_own_upsampling_is_used(model, samples, monkeypatch):
    aligned = ours("mmseg", model, samples)
    monkeypatch.setattr(model, "align_corners", False)
    assert not np.array_equal(ours("mmseg", model, samples), aligned)
    assert np.abs(ours("whole", model, samples) - independent(whole_way, model, samples)).sum() <= 20
