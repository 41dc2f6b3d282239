import pytest
from PIL import Image

from deeplab_fast.data import image_sizes
from deeplab_fast.data.image_sizes import median_side
from deeplab_fast.data.sources import FileSource
from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING


def source_of(root, sizes):
    """Samples with images of these sizes, (width, height); None: a file that is no image."""
    names = [f"a picture {i}.png" for i in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        if size is None:
            (root / name).write_bytes(b"")
        else:
            Image.new("RGB", size).save(root / name)
    return FileSource(root, names, names, names)


@pytest.mark.parametrize(
    ("sizes", "median"),
    [
        ([(40, 30)], 40),
        ([(40, 30), (20, 50), (10, 10)], 40),
        ([(40, 30), (20, 50)], 40),  # the smaller of two
        ([(10, 10), (30, 30), (60, 60), (90, 10)], 30),
    ],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_the_median_is_of_the_longer_sides(sizes, median, threads, tmp_path):
    assert median_side(source_of(tmp_path, sizes), DEFAULT_DECODING, threads) == (median, len(sizes))


def test_what_cannot_be_read_does_not_count(tmp_path):
    source = source_of(tmp_path, [None, (40, 30), None, (20, 50), (10, 10)])
    (tmp_path / source.images[2]).unlink()
    assert median_side(source, DEFAULT_DECODING, 1) == (40, 3)


def test_where_nothing_can_be_read_the_first_is_named(tmp_path):
    with pytest.raises(
        UserError, match=r"^--crop_size=auto: none of 2 images can be read, the first: .*a picture 0\.png"
    ):
        median_side(source_of(tmp_path, [None, None]), DEFAULT_DECODING, 0)


def test_of_many_images_some_that_lie_spread_over_them_count(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sizes, "_MOST", 3)
    sizes = [(10, 10), (99, 99), (99, 99), (20, 20), (99, 99), (99, 99), (30, 30), (99, 99)]
    assert median_side(source_of(tmp_path, sizes), DEFAULT_DECODING, 0) == (20, 3)
