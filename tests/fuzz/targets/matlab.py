"""Labels of the SBD: MATLAB files, in bytes and compressed."""

import io
import zlib

import numpy as np
from scipy.io import savemat

from deeplab_fast.data.voc import sbd_label

from .target import Target

HEADER = 128  # bytes of text and version, which the elements follow


def read(data, _):
    label = sbd_label(data, "x.mat")
    assert label.dtype == np.uint8
    assert label.ndim == 2
    assert label.size


def mutate(data, generator, mutate_bytes, most):
    """Half of the inputs are a compressed element whose content is mutated."""
    if generator.random() < 0.5 or len(data) < HEADER + 8:
        return mutate_bytes(data, most)
    content = data[HEADER:]
    if content[:1] == b"\x0f":  # miCOMPRESSED
        try:
            content = zlib.decompressobj().decompress(content[8:], 1 << 16)
        except zlib.error:
            return mutate_bytes(data, most)
    return (data[:HEADER] + compressed(mutate_bytes(content, 4096)))[:most]


def compressed(element):
    packed = zlib.compress(element)
    return b"\x0f\0\0\0" + len(packed).to_bytes(4, "little") + packed


def matlab(segmentation, **options):
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": {"Boundaries": np.zeros(1), "Segmentation": segmentation}}, **options)
    return buffer.getvalue()


def seeds():
    label = np.arange(6, dtype=np.uint8).reshape(2, 3)
    yield "bytes", matlab(label)
    yield "compressed", matlab(label, do_compression=True)
    yield "double", matlab(label.astype(np.float64) + 0.5)
    yield "kinds", matlab(np.array([["a"]], dtype=object))
    yield "older", matlab_4()
    yield "bomb", matlab(np.zeros((1024, 2048), np.uint8), do_compression=True)


def matlab_4():
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": np.zeros((2, 2))}, format="4")
    return buffer.getvalue()


# Eight kilobytes of zlib hold eight megabytes; the values are compared as doubles.
TARGET = Target("sbd", read, seeds, mutate, cpu_seconds=2, megabytes=300)
