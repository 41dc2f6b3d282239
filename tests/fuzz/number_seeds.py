"""Seeds of the native targets whose inputs are numbers, in the order in which these take them."""

import struct

WIDTHS = (1, 1, 2, 4, 8)


def confusions():
    """Labels and predictions of each type, and of each set of instructions."""
    for label, prediction, level in ((0, 0, 0), (1, 4, 1), (2, 3, 2), (4, 0, 3), (0, 0, 3)):
        pixels = 150 if level == 3 else 40
        values = [int.to_bytes(i % 5, width, "little") for width in (WIDTHS[label], WIDTHS[prediction])
                  for i in range(pixels)]  # fmt: skip
        head = bytes([label, prediction, 4, level]) + struct.pack("<q", 3)
        yield f"types-{label}-{prediction}-{level}", head + b"".join(values)


def usual(value):
    return bytes([0, value])


def batches():
    """Batches of crops, and of source pixels with enough room for them; one that ends in mid-work."""
    for name, threads, is_ragged, ends in (
        ("crops", 0, 0, 0),
        ("threads", 2, 0, 0),
        ("ragged", 1, 1, 0),
        ("end", 2, 0, 1),
        ("colour", 0, 0, 0),
    ):
        head = usual(33) + usual(128) + usual(200) + b"\0" + usual(255)  # side, scales, bicubic, ignore label
        head += b"\0\1" + usual(5) + bytes([threads, 1, 0 if is_ragged else 1])  # rules, classes, two samples
        head += struct.pack("<H", 4096) if is_ragged else b""
        colour = struct.pack("<12i", *([1 << (25 if name == "colour" else 14), 0, 0, 0] * 3))
        jobs = b""
        for image in (0, 2 if name == "threads" else 0):
            extracts = b"".join(usual(file) + b"\1\1" for file in (image, image + 1))
            jobs += extracts + b"".join(map(usual, (100, 50, 200, 255))) + b"\0\1"
        yield name, head + colour + jobs + b"\1\1" + (b"\0" if ends else b"\1")
