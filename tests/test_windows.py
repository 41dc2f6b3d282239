"""Images in windows against an independent version: plain torch over the whole image, a window at a time."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import deeplab_fast
from deeplab_fast import eval as evaluation
from deeplab_fast.config import EvalConfig
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.evaluator import evaluate
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.evaluation.protocol import Protocol
from deeplab_fast.evaluation.protocols import Recipe
from deeplab_fast.evaluation.settings import Settings
from deeplab_fast.evaluation.windows import blended, starts, weights
from tests.faults.tiny import make_tiny
from tests.prediction.networks import NAMES, picture, save_network

CPU = torch.device("cpu")
SIDE = 65
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        yield save_network(tmp_path_factory.mktemp("windows") / "best.pt", SIDE, names=NAMES)


@pytest.fixture(scope="module")
def model(checkpoint):
    return trained_model(EvalConfig, {"ckpt_path": str(checkpoint)})[1]


def protocol(window, overlap=0.5, scales=(1.0,), flip=False):
    flags = EvalConfig(crop_size=SIDE, window=window, overlap=overlap)
    return Protocol.of(flags, "fp32", scales, flip).in_windows(flags)


@torch.no_grad()
def independent(model, image, overlap=0.5, flip=False):
    """Probabilities of windows of the crop size: each normalised, padded, through the network, weighed and added."""
    x = ((torch.from_numpy(image).float() - MEAN) / STD).permute(2, 0, 1)[None]
    height, width = image.shape[:2]
    total, weight = torch.zeros(3, height, width, dtype=torch.float64), torch.zeros(height, width, dtype=torch.float64)

    def along(length):
        if length <= SIDE:
            return [0]
        count = math.ceil((length - SIDE) / math.floor(SIDE * (1 - overlap))) + 1
        return [round(float(v)) for v in np.linspace(0, length - SIDE, count)]

    for top in along(height):
        for left in along(width):
            h, w = min(SIDE, height), min(SIDE, width)
            seen = torch.zeros(1, 3, SIDE, SIDE)
            seen[..., :h, :w] = x[..., top : top + h, left : left + w]
            p = model.predict(seen).softmax(1)[0, :, :h, :w].double()
            if flip:
                p = p + model.predict(seen.flip(-1)).softmax(1)[0].flip(-1)[:, :h, :w]
                p = p / 2
            y, z = (torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n) ** 2 for n in (h, w))
            total[:, top : top + h, left : left + w] += y[:, None] * z * p
            weight[top : top + h, left : left + w] += y[:, None] * z
    return (total / weight).numpy()


@pytest.mark.parametrize("size", [(150, 200), (66, 65), (40, 140), (140, 30), (65, 65)])
@pytest.mark.parametrize(("overlap", "flip"), [(0.5, False), (0.0, False), (0.25, True)])
def test_probabilities_equal_the_independent_version_s(checkpoint, model, size, overlap, flip):
    image = picture(*size)
    flags = {"device_target": "CPU", "precision": "fp32", "window": SIDE, "overlap": overlap, "flip": flip}
    found = deeplab_fast.Segmenter(checkpoint, **flags, batch_size=3)(image)
    expected = independent(model, image, overlap, flip)
    assert np.abs(found.probabilities - expected).max() < 2e-3  # of a batch of another size, and in fp32
    assert (found.classes != expected.argmax(0)).mean() < 1e-3
    assert len(np.unique(found.classes)) > 1


def test_the_whole_image_gives_something_else(checkpoint, model):
    """Or the test above could not tell them apart."""
    flags = {"device_target": "CPU", "precision": "fp32"}
    found = deeplab_fast.Segmenter(checkpoint, **flags)(picture(150, 200))
    assert np.abs(found.probabilities - independent(model, picture(150, 200))).mean() > 0.02
    halved = independent(model, picture(150, 200), 0.0)
    assert np.abs(halved - independent(model, picture(150, 200))).mean() > 0.005


@pytest.fixture
def samples(tmp_path):
    """Images of several sizes, one smaller than a window, with labels."""
    lines = []
    for i, size in enumerate([(150, 100), (60, 50), (90, 131)]):
        Image.fromarray(picture(*size, i)).save(tmp_path / f"{i}.png")
        label = (picture(*size, 9 + i)[..., 0] // 86).astype(np.uint8)
        Image.fromarray(label).save(tmp_path / f"{i}_label.png")
        lines.append(f"{i}.png {i}_label.png\n")
    (tmp_path / "val.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 3])
def test_evaluation_equals_the_independent_version_s(model, samples, batch_size):
    counts = np.zeros((3, 3), np.int64)
    for i in range(3):
        image, label = (np.asarray(Image.open(samples / name)) for name in (f"{i}.png", f"{i}_label.png"))
        if max(label.shape) > SIDE:
            classes = independent(model, np.array(image)).argmax(0)
        else:
            classes = evaluated_whole(model, samples, i)
        np.add.at(counts, (label, classes), 1)
    source = list_source(samples, samples / "val.txt")
    found = evaluate(model, source, Recipe(protocol(SIDE)), Settings(3, 255, CPU, batch_size)).confusion
    assert np.array_equal(found.sum(1), counts.sum(1))
    assert np.abs(found - counts).sum() <= 0.001 * counts.sum()


def evaluated_whole(model, samples, i):
    from deeplab_fast.evaluation.protocol import segment_images

    return segment_images(model, [np.array(Image.open(samples / f"{i}.png"))], protocol(0), CPU)[0]


def test_one_window_over_the_image_is_the_whole_to_the_bit(checkpoint, model, samples):
    source = list_source(samples, samples / "val.txt")
    flags = {"device_target": "CPU", "precision": "fp32"}
    whole = evaluate(model, source, Recipe(protocol(0)), Settings(3, 255, CPU, 3)).confusion
    assert np.array_equal(evaluate(model, source, Recipe(protocol(150)), Settings(3, 255, CPU, 3)).confusion, whole)
    assert not np.array_equal(evaluate(model, source, Recipe(protocol(149)), Settings(3, 255, CPU, 3)).confusion, whole)
    image = picture(150, 100)
    expected, found = (deeplab_fast.Segmenter(checkpoint, **flags, window=n)(image) for n in (0, 150))
    assert np.array_equal(expected.probabilities, found.probabilities)


@pytest.mark.parametrize("length", [1, 64, 65, 66, 97, 98, 1000, 20000])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_windows_cover_a_side_evenly_with_the_asked_share_in_common(length, overlap):
    found = starts(length, SIDE, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, length - SIDE)
    steps = np.diff(found)
    if len(steps):
        assert steps.max() - steps.min() <= 1
        assert steps.max() <= max(1, math.floor(SIDE * (1 - overlap)))
        assert len(steps) == 1 or (len(steps) - 1) * math.floor(SIDE * (1 - overlap)) < length - SIDE  # no more of them


def test_weights_are_smooth_and_nowhere_0():
    for length in (1, 2, 65, 4097):
        found = weights(length)
        assert (found > 0).all()
        assert torch.allclose(found, found.flip(0))
        assert found.argmax() in (length // 2, (length - 1) // 2)
    assert weights(65).diff().abs().max() < 0.05


def test_a_high_image_is_blended_in_bands(model):
    """The bands come one by one: what is held does not grow with the image's height."""
    from deeplab_fast.evaluation.windows import rows_of

    image = picture(600, 70)
    asked = []

    def rows():
        for row in rows_of(model, image, protocol(SIDE), CPU, 4):
            asked.append(row.top)
            yield row

    heights = []
    for band in blended(rows(), (600, 70), True):
        heights.append(band.shape[1])
        assert max(heights) <= SIDE
        assert len(asked) <= len(heights) + 1
    assert sum(heights) == 600
    assert len(heights) == len(asked)


def test_eval_writes_the_windows_into_its_metrics_file(checkpoint, samples, capsys):
    flags = [f"--ckpt_path={checkpoint}", f"--data_root={samples}", f"--data_lst={samples / 'val.txt'}"]
    flags += [f"--report={samples}", "--num_workers=0", "--device_target=CPU"]
    assert evaluation.main(flags) == 0
    assert evaluation.main([*flags, "--window=65", "--overlap=0.25"]) == 0
    plain = json.loads((samples / "metrics-best-val.json").read_text())
    found = json.loads((samples / "metrics-best-val-window65.json").read_text())
    assert "window" not in plain["protocol"]
    assert not {"window", "overlap"} & set(plain["provenance"]["flags"])
    assert (found["protocol"]["window"], found["protocol"]["overlap"]) == (65, 0.25)
    assert found["provenance"]["flags"]["window"] == 65
    assert found["confusion_matrix"] != plain["confusion_matrix"]
    with pytest.raises(UserError, match="--window=16: expected at least 17, or 0"):
        evaluation.main([*flags, "--window=16"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"window": 3}, "--window=3: expected at least 17, or 0 for whole images"),
        ({"window": -1}, "--window=-1: expected at least 0"),
        ({"overlap": 0.95}, "--overlap=0.95: expected at most 0.9"),
    ],
)
def test_wrong_windows_are_refused(checkpoint, flags, message):
    with pytest.raises(UserError, match=message):
        deeplab_fast.Segmenter(checkpoint, device_target="CPU", **flags)
