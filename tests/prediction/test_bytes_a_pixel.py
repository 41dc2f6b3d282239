"""Memory of a prediction: bounded for one large image, and the same after many."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model
from tests.prediction.networks import picture

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
ROOT = Path(__file__).parents[2]
GB = 10**9


def measure(*flags):
    """Run a prediction in another process; returns what :mod:`tests.prediction.measured` prints."""
    command = [sys.executable, "-m", "tests.prediction.measured", *flags, "--device_target=CPU", "--precision=fp32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def save_large(path, width, height):
    """Write a smooth image of so many pixels, which compresses well."""
    Image.fromarray(picture(60, 90)).resize((width, height), Image.Resampling.BILINEAR).save(path)
    return path


def test_a_large_image_takes_few_bytes_a_pixel(weights, tmp_path):
    """The image, its overlay, the classes as they are and as an image; strips and a row of windows of all else."""
    flags = ["--few_channels", f"--ckpt_path={weights}", "--window=513", "--overlap=0", "--crop_size=33"]
    flags += ["--save=classes,overlay,areas,polygons", "--legend", "--outlines", "--clear"]
    peaks = []
    for side in (300, 2400):
        given = save_large(tmp_path / f"{side}.png", side, side)
        peaks.append(measure(*flags, f"--input={given}", f"--output={tmp_path / str(side)}")["peak"])
    assert (peaks[1] - peaks[0]) / 2400**2 < 20


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "resnet101"])
def test_12000_by_8000_pixels_need_less_than_2_gb(backbone, suffix, tmp_path):
    torch.manual_seed(0)
    config = {"backbone": backbone, "num_classes": 21, "crop_size": 513}
    model = build_model(ModelConfig(backbone=backbone))
    file = tmp_path / "weights.pt"
    torch.save({"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": config}, file)
    given = save_large(tmp_path / f"large.{suffix}", 12000, 8000)
    flags = [f"--ckpt_path={file}", f"--input={given}", f"--output={tmp_path / 'out'}", "--max_pixels=96000000"]
    assert measure(*flags, "--window=513", "--save=classes,overlay,areas,polygons")["peak"] < 2 * GB


def check_steady(weights, tmp_path, count, after):
    """Hold the memory after the last of ``count`` images of any size to that after image number ``after``."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        height, width = generator.integers(100, 500, 2).tolist()
        Image.fromarray(picture(height, width, i)).save(folder / f"{i}.{'jpg' if i % 2 else 'png'}")
    flags = ["--few_channels", f"--ckpt_path={weights}", f"--input={folder}", f"--output={tmp_path / 'out'}"]
    found = measure(*flags, "--batch_size=3")["written"]
    assert len(found) == count
    assert np.median(found[-10:]) < 1.05 * np.median(found[after : after + 10])


def test_memory_is_the_same_after_many_images(weights, tmp_path):
    check_steady(weights, tmp_path, 80, 30)


@pytest.mark.slow
def test_memory_is_the_same_after_1000_images(weights, tmp_path):
    check_steady(weights, tmp_path, 1000, 100)
