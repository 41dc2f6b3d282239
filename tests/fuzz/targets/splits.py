"""Files of a split: one of train images, one of val images."""

from deeplab_fast.data.given import SampleNames, check_disjoint, read_split
from deeplab_fast.data.lists import read_list

from .parts import join, split
from .target import Target

IMAGES = [f"mine/images/{name}" for name in ("a.jpg", "b.png", "x/a.jpg", "e\u0301 f.JPG", ".png")]
LABELS = [f"mine/labels/{name}.png" for name in ("a", "b", "x/a", "e\u0301 f", "")]


def read(data, folder):
    names = SampleNames(IMAGES, LABELS, "mine/images")
    splits = []
    for name, content in zip(("train.txt", "val.txt", "lst.txt"), split(data, 3), strict=True):
        (folder / name).write_bytes(content)
        if name == "lst.txt":
            read_list(folder / name)
        else:
            splits.append(read_split(folder / name, names))
            assert all(0 <= i < len(IMAGES) for i in splits[-1].samples)
    check_disjoint(splits, IMAGES)


def mutate(data, generator, mutate_bytes, most):
    parts = split(data, 3)
    at = generator.randrange(3)
    parts[at] = mutate_bytes(parts[at], 4096)
    return join(*parts)[:most]


def seeds():
    pairs = b"images/a.jpg labels/a.png\n/b.png\tb.png\n"
    yield "names", join(b"images/a\nb.png\n", b"x/a\n", pairs)
    yield "pairs", join(b"b.png labels/b.png\r\n", b"x\\a.jpg\tx/a.png\r\n", pairs)
    other = "\u00e9.jpg\u3000x e\u0301.png"
    yield "wide", join("b\n".encode("utf-16"), "\ufeffe\u0301 f.JPG\n".encode(), other.encode())
    yield "twice", join(b"b\nb\n\n\t\n", b"b\n", b"a b\na b\n")


TARGET = Target("splits", read, seeds, mutate, cpu_seconds=2, megabytes=32)
