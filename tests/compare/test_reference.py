"""The reference's samples and loop do what torchvision's presets and script do."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.compare.network import ReferenceNetwork
from deeplab_fast.compare.reference import train_reference
from deeplab_fast.compare.reference_data import ReferenceSamples, base_size
from deeplab_fast.config import TrainConfig
from deeplab_fast.data.sources import Sample, list_source
from deeplab_fast.errors import TrainingDiverged
from tests.trials.samples import CLASSES, write_samples

CONFIG = TrainConfig(
    **{"backbone": "resnet18", "head": "torchvision", "num_classes": CLASSES, "crop_size": 33, "batch_size": 4},
    **{"train_epochs": 2, "base_lr": 0.01, "num_workers": 0, "precision": "fp32"},
)


class OneImage:
    """A source of a single image, whose left half is red and of class 1, the rest blue and of class 2."""

    def __init__(self, width, height, orientation=1):
        label = np.full((height, width), 2, np.uint8)
        label[:, : width // 2] = 1
        image = np.where(label[..., None] == 1, [255, 0, 0], [0, 0, 255]).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        self.image, self.label = io.BytesIO(), io.BytesIO()
        stored = np.rot90(image) if orientation == 6 else image  # 6: to be shown turned by 90 degrees clockwise
        Image.fromarray(np.ascontiguousarray(stored)).save(self.image, "PNG", exif=exif)
        Image.fromarray(label).save(self.label, "PNG")

    def __len__(self):
        return 1

    def read(self, index):
        return Sample("one", self.image.getvalue(), self.label.getvalue(), "image", "label")


@pytest.mark.parametrize(("bits", "values"), [(1, {0, 1, 255}), (2, {1, 2, 255}), (4, {1, 2, 255}), (8, {1, 2, 255})])
def test_labels_of_fewer_bits_are_their_classes(bits, values):
    source = OneImage(60, 25)
    label = np.asarray(Image.open(source.label)) - (bits == 1)
    rows = np.packbits(np.unpackbits(label[..., None], axis=2)[..., -bits:].reshape(25, -1), axis=1)
    source.label = io.BytesIO(png(60, 25, bits, rows))
    samples = ReferenceSamples(source, CONFIG)
    random.seed(0)
    torch.manual_seed(0)
    assert {int(v) for _ in range(30) for v in samples[0][1].unique()} == values


def png(width, height, bits, rows):
    """Return a grey PNG of so many bits a pixel: rows uint8 ``[height, bytes]``."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_the_base_is_to_the_crop_as_520_to_480():
    assert (base_size(480), base_size(129)) == (520, 140)


@pytest.mark.parametrize("orientation", [1, 6])
def test_labels_stay_on_their_pixels_and_padding_is_ignored(orientation):
    random.seed(0)
    torch.manual_seed(0)
    samples = ReferenceSamples(OneImage(60, 25, orientation), CONFIG)
    padded = set()
    for _ in range(30):
        image, label = samples[0]
        assert image.shape == (3, 33, 33)
        assert image.dtype == torch.float32
        assert label.shape == (33, 33)
        assert label.dtype == torch.int64
        rgb = image * torch.tensor(CONFIG.std_rgb)[:, None, None] + torch.tensor(CONFIG.mean_rgb)[:, None, None]
        inner = torch.nn.functional.max_pool2d((label == 1).float()[None], 9, 1, 4)[0] == 0  # away from the edge
        assert (rgb[2][(label == 2) & inner] > 200).all()
        assert (rgb[:, label == 255] < 1e-3).all()
        padded.add(bool((label == 255).any()))
    assert padded == {True, False}  # shorter sides from 18 to 72


def test_the_shorter_side_takes_half_to_twice_the_base(monkeypatch):
    asked = []
    monkeypatch.setattr(random, "randint", lambda low, high: asked.append((low, high)) or low)
    ReferenceSamples(OneImage(60, 25), CONFIG)[0]
    assert asked == [(18, 72)]  # base 36


def trained(tmp_path, **flags):
    config = TrainConfig(**{**vars(CONFIG), **flags})
    write_samples(tmp_path)
    network = ReferenceNetwork("resnet18", CLASSES, 16, aux=True)
    source = list_source(tmp_path, tmp_path / "train.txt")
    file = tmp_path / "reference.pt"
    return train_reference(network, source, config, torch.device("cpu"), file), file


def test_it_trains_by_the_scripts_optimiser_and_schedule(tmp_path):
    found, file = trained(tmp_path, num_workers=1)
    assert found.steps == 4  # of 10 images, 4 a step, twice; what does not fill a batch is left out
    assert found.loss > 0
    assert found.cost.seconds > 0
    assert found.cost.peak_memory > 100 << 20  # torch alone takes as much
    assert not any(name.startswith("aux_classifier") for name in found.weights)
    saved = torch.load(file, weights_only=True)
    groups = saved["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.01, 0.01, 0.1]
    assert {(group["momentum"], group["weight_decay"]) for group in groups} == {(0.9, 1e-4)}
    assert saved["lr"]["total_iters"] == 4
    assert [group["lr"] for group in groups] == pytest.approx([0, 0, 0], abs=1e-12)  # after the last step


def test_it_says_that_it_diverged(tmp_path):
    with pytest.raises(TrainingDiverged, match="the reference's last loss, of step 4, is"):
        trained(tmp_path, base_lr=1e30)
