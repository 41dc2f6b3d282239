"""JPEG on the GPU where there is one; everywhere the reason why not, and the CPU in its place."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_image, decode_jpegs
from deeplab_fast.ops.decode_gpu import gpu_decoder_missing

pytestmark = pytest.mark.gpu


def files(modes=("RGB", "L", "RGB")):
    found = []
    for i, mode in enumerate(modes):
        pixels = np.random.default_rng(i).integers(0, 256, (6 + i, 9, 3), np.uint8)
        image = Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        found.append(buffer.getvalue())
    return found


def test_without_a_gpu_the_cpu_decodes():
    data = files()
    for image, one in zip(decode_jpegs(data, torch.device("cpu")), data, strict=True):
        assert np.array_equal(image.numpy(), decode_image(one, "x"))


def test_the_reason_is_given():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu_decoder_missing()


def test_a_bad_file_is_named_by_its_number():
    with pytest.raises(UserError, match="file 1: "):
        decode_jpegs([*files()[:1], b"\xff\xd8nothing"], torch.device("cpu"))


@pytest.mark.skipif(bool(gpu_decoder_missing()), reason=f"no JPEG decoder on a GPU: {gpu_decoder_missing()}")
def test_on_the_gpu_colours_are_close():
    data = files()
    for image, one in zip(decode_jpegs(data, torch.device("cuda")), data, strict=True):
        expected = decode_image(one, "x").astype(int)
        assert image.is_cuda
        assert np.abs(image.cpu().numpy() - expected).mean() < 2
