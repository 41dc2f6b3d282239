"""normalise, confusion_matrix, upsample_softmax, decode: each against a plain computation."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from deeplab_fast.errors import UserError
from deeplab_fast.ops import confusion_matrix, decode_image, decode_label, image_size, normalise, upsample_softmax


def test_normalise_is_zero_outside_the_extent_and_exact_inside():
    images = torch.randint(0, 256, (2, 8, 9, 3), dtype=torch.uint8)
    extents = torch.tensor([[0, 5, 2, 9], [0, 8, 0, 9]], dtype=torch.int32)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    out = normalise(images, extents, mean, std, torch.float32)
    assert out.shape == (2, 3, 8, 9)
    assert out.is_contiguous(memory_format=torch.channels_last)
    plain = (images.permute(0, 3, 1, 2).float() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.equal(out[1], plain[1])
    assert torch.equal(out[0, :, :5, 2:], plain[0, :, :5, 2:])
    assert not out[0, :, 5:].any()
    assert not out[0, :, :, :2].any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_confusion_matrix_counts_pairs(dtype):
    labels = torch.tensor([[0, 1, 2, 255], [2, 2, 1, 0]]).to(dtype)
    predictions = torch.tensor([[0, 1, 1, 1], [2, 0, 1, 0]])
    assert confusion_matrix(labels, predictions, 3, 255).tolist() == [[2, 0, 0], [0, 2, 0], [1, 1, 1]]


def test_confusion_matrix_names_a_label_out_of_range():
    with pytest.raises(UserError, match="label 7: expected 0 to 2"):
        confusion_matrix(torch.tensor([0, 7]), torch.tensor([0, 0]), 3, 255)


def test_upsample_softmax_crops_before_resizing():
    logits = torch.randn(4, 5, 5)
    out = upsample_softmax(logits, 33, (33, 20), (50, 31), True)
    full = F.interpolate(logits[None], (33, 33), mode="bilinear", align_corners=True).softmax(1)[..., :20]
    expected = F.interpolate(full, (50, 31), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(out.sum(0), torch.ones(50, 31))


def encode(array, file_format, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def test_decode_image_modes():
    rgb = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert np.array_equal(decode_image(encode(rgb, "PNG"), "x"), rgb)
    for mode in ("L", "CMYK"):
        assert decode_image(encode(rgb, "JPEG", mode), "x").shape == (9, 7, 3)
    assert image_size(encode(rgb, "PNG"), "x") == (9, 7)


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(np.zeros((10, 20, 3), np.uint8), "JPEG", exif=exif)
    assert decode_image(data, "x").shape == (10, 20, 3)


def test_palette_label_gives_indexes():
    label = np.array([[0, 1], [20, 255]], np.uint8)
    image = Image.fromarray(label).convert("P")
    image.putpalette([7] * 768)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert decode_label(buffer.getvalue(), "x").tolist() == [[0, 1], [20, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_labels_of_fewer_bits_give_classes(bits):
    """PNG written by hand: rows of packed samples, each after a filter byte."""
    label = (np.arange(24).reshape(3, 8) % (1 << bits)).astype(np.uint8)
    packed = [bytes([0]) + np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]).tobytes() for row in label]

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 3, bits, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(packed))) + chunk(b"IEND", b"")
    assert np.array_equal(decode_label(data, "x"), label)


def test_colour_label_is_refused_with_its_name():
    with pytest.raises(
        UserError, match=r"a\.png: label has mode RGB; expected a grey or palette PNG .*; map its colours"
    ):
        decode_label(encode(np.zeros((4, 4, 3), np.uint8), "PNG"), "a.png")


@pytest.mark.parametrize("cut", [0, 1, 20, 300])
def test_truncated_jpeg_is_refused_with_its_name(cut):
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    with pytest.raises(UserError, match=r"b\.jpg: "):
        decode_image(data[:cut], "b.jpg")


@pytest.mark.parametrize("decode", [decode_image, decode_label])
def test_the_malformed_corpus_is_decoded_or_refused(decode, shared_data):
    """Nothing but :class:`UserError` comes out, and it names the file."""
    refusals, files = {}, [p for p in sorted((shared_data / "malformed").rglob("*")) if p.is_file()]
    for path in files:
        try:
            decode(path.read_bytes(), str(path))
        except UserError as error:
            refusals[path] = str(error)
    assert all(message.startswith(f"{path}: ") for path, message in refusals.items())
    assert 0 < len(refusals) < len(files)
