"""Masks of colours, of 0 and 255 and of class numbers become index maps, pixel for pixel."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.prepare.palettes import CAMVID, CITYSCAPES, open_palette
from tests.data.annotated import HEIGHT, WIDTH, convert, make_image, names, refused, without_sheet, write, write_mask

PALETTE = (
    "# a comment\r\n0 0 0 background\r\n255,128, 0\tred car # front\n#00ff80 tree\n\n#ff0001 tree\n1 1 1 __ignore__\n"
)
COLOURS = np.array([(0, 0, 0), (255, 128, 0), (0, 255, 128), (255, 0, 1), (1, 1, 1)], np.uint8)
VALUES = np.array([0, 1, 2, 2, 255], np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with two images, one in a subfolder whose name has a space and a letter beyond ASCII."""
    without_sheet(monkeypatch)
    for name in ("a.jpg", "süb földer/b.png"):
        make_image(tmp_path / "images" / name)
    return tmp_path


def masks(root, make):
    """Write a mask of each image, and return the arrays by name."""
    draw = np.random.default_rng(3)
    made = {name: make(draw) for name in ("a", "süb földer/b")}
    for name, values in made.items():
        write_mask(root / "masks" / f"{name}.png", values)
    return made


def indexes(draw, high):
    return draw.integers(0, high, (HEIGHT, WIDTH), dtype=np.uint8)


def coloured(root, colours=COLOURS):
    """Masks of these colours, and their indexes."""
    made = masks(root, lambda draw: indexes(draw, len(colours)))
    for name, index in made.items():
        write_mask(root / "masks" / f"{name}.png", colours[index])
    return made


def equal(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in found)


def test_a_palette_file_maps_colours_to_classes(root):
    write(root / "palette.txt", PALETTE)
    made = coloured(root)
    found = convert(root, "masks", f"--palette={root / 'palette.txt'}")
    assert equal(found, {name: VALUES[index] for name, index in made.items()})
    assert names(root) == ["background", "red car", "tree"]
    counts = json.loads((root / "counts.json").read_text())
    everything = np.concatenate([VALUES[index].ravel() for index in made.values()])
    assert [entry["pixels"] for entry in counts["classes"]] == [int((everything == i).sum()) for i in range(3)]
    assert counts["ignored"] == {"label": 255, "pixels": int((everything == 255).sum()), "images": 2}


def test_an_unknown_colour_is_named_with_its_place_and_the_nearest(root):
    write(root / "palette.txt", PALETTE)
    made = coloured(root)
    pixels = COLOURS[made["a"]].copy()
    pixels[7, 5] = 250, 130, 9
    write_mask(root / "masks/a.png", pixels)
    flags = f"--palette={root / 'palette.txt'}"
    said = refused(root, "masks", flags)
    assert "masks/a.png: pixel 5,7 has colour 250 130 9" in said
    assert "nearest is 255 128 0 (red car)" in said
    expected = VALUES[made["a"]].copy()
    expected[7, 5] = 255
    assert np.array_equal(convert(root, "masks", flags, "--unknown=ignore")["a"], expected)
    assert json.loads((root / "counts.json").read_text())["left_out"] == {"pixel of an unknown colour": 1}


def test_a_palette_png_is_read_by_its_colours(root):
    write(root / "palette.txt", PALETTE)
    made = coloured(root)
    order = [4, 2, 0, 1, 3]  # indexes that are not the classes
    for name, index in made.items():
        image = Image.fromarray(np.argsort(order).astype(np.uint8)[index])
        image.putpalette(COLOURS[order].tobytes())
        image.save(root / "masks" / f"{name}.png")
    found = convert(root, "masks", f"--palette={root / 'palette.txt'}")
    assert equal(found, {name: VALUES[index] for name, index in made.items()})


def test_transparent_colours_are_refused_and_opaque_ones_read(root):
    write(root / "palette.txt", PALETTE)
    made = coloured(root)
    pixels = np.dstack([COLOURS[made["a"]], np.full((HEIGHT, WIDTH), 255, np.uint8)])
    write_mask(root / "masks/a.png", pixels)
    flags = f"--palette={root / 'palette.txt'}"
    assert np.array_equal(convert(root, "masks", flags)["a"], VALUES[made["a"]])
    pixels[3, 2, 3] = 128
    write_mask(root / "masks/a.png", pixels)
    assert "pixel 2,3 is transparent (alpha 128)" in refused(root, "masks", flags)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 0\n", "line 1: '0 0 0'; expected lines"),
        ("0 0 0 a\n1 2 300 b\n", "line 2: 256; expected colours of 0 to 255"),
        ("0 0 0 a\n0 " + "1" * 5000 + " 0 b\n", "line 2: '0 1111"),
        ("0 0 0 a\n#000000 b\n", "colour 0 0 0 has two classes"),
        ("# nothing\n", "no class"),
        ("", "no class"),
    ],
)
def test_a_bad_palette_file_is_named(root, text, said):
    coloured(root)
    write(root / "palette.txt", text)
    assert said in refused(root, "masks", f"--palette={root / 'palette.txt'}")


def test_palettes_of_data_sets():
    voc = open_palette("voc", 255)
    assert (len(voc.names), voc.table[192 << 16 | 128 << 8 | 128], voc.table[224 << 16 | 224 << 8 | 192]) == (
        21,
        15,
        255,
    )
    for name, colours, classes in (("camvid", CAMVID, 11), ("Cityscapes", CITYSCAPES, 19)):
        made = open_palette(name, 255)
        assert len(made.names) == classes
        assert len(made.numbers) == sum(map(len, colours.values()))
    assert len(open_palette("camvid", 255).numbers) == 32
    with pytest.raises(UserError, match="--palette=ade: no such file; expected voc, camvid, cityscapes"):
        open_palette("ade", 255)


@pytest.mark.parametrize("flags", [[], ["--binary"]])
def test_0_and_255_become_0_and_1(root, flags):
    made = masks(root, lambda draw: indexes(draw, 2) * 255)
    assert equal(convert(root, "masks", *flags), {name: values // 255 for name, values in made.items()})
    assert names(root) == ["background", "foreground"]


def test_black_and_white_in_colours_is_0_and_255(root):
    made = masks(root, lambda draw: np.repeat(indexes(draw, 2)[..., None] * 255, 3, axis=2))
    assert equal(convert(root, "masks"), {name: values[..., 0] // 255 for name, values in made.items()})


def test_another_value_is_no_mask_of_0_and_255(root):
    made = masks(root, lambda draw: indexes(draw, 2) * 255)
    made["a"][4, 9] = 254
    write_mask(root / "masks/a.png", made["a"])
    assert "a.png: value 254 at pixel 9,4; expected 0 and 255" in refused(root, "masks", "--binary")
    assert convert(root, "masks", "--binary", "--ignore_values=254")["a"][4, 9] == 255


def test_colours_without_a_palette_are_refused(root):
    coloured(root)
    assert "--palette" in refused(root, "masks")


def test_values_are_ignored_and_numbered_anew(root):
    made = masks(root, lambda draw: np.array([0, 1, 2, 3, 254, 255], np.uint8)[indexes(draw, 6)])
    found = convert(root, "masks", "--ignore_values=0,254", "--classes=x,a,b,c")
    assert equal(found, {name: np.where(np.isin(v, [0, 254]), 255, v) for name, v in made.items()})
    found = convert(root, "masks", "--reduce_zero_label", "--ignore_values=254", "--classes=a,b,c")
    reduced = {n: np.where(np.isin(v, [0, 254, 255]), 255, v.astype(int) - 1) for n, v in made.items()}
    assert equal(found, reduced)
    assert names(root) == ["a", "b", "c"]


def test_a_class_beyond_the_names_is_named(root):
    masks(root, lambda draw: np.full((HEIGHT, WIDTH), 3, np.uint8))
    assert "class 3 at pixel 0,0; expected one of 2 classes (--classes)" in refused(root, "masks", "--classes=a,b")


def test_without_names_the_values_say_how_many_classes(root):
    masks(root, lambda draw: indexes(draw, 4))
    convert(root, "masks")
    assert names(root) == ["class 0", "class 1", "class 2", "class 3"]


def test_16_bits_are_read_where_they_fit_in_8(root):
    made = masks(root, lambda draw: draw.integers(0, 9, (HEIGHT, WIDTH), dtype=np.uint16))
    assert equal(convert(root, "masks"), {name: v.astype(np.uint8) for name, v in made.items()})
    made["a"][2, 1] = 26003
    write_mask(root / "masks/a.png", made["a"])
    assert "a.png: value 26003 at pixel 1,2" in refused(root, "masks")
    assert convert(root, "masks", "--ignore_values=26003")["a"][2, 1] == 255


def test_grey_of_few_bits_is_not_stretched(root):
    made = masks(root, lambda draw: indexes(draw, 2))
    for name, values in made.items():
        Image.fromarray(values.astype(bool)).save(root / "masks" / f"{name}.png")
    assert equal(convert(root, "masks"), made)


def test_jpeg_masks_are_refused(root):
    masks(root, lambda draw: indexes(draw, 2))
    (root / "masks/a.png").unlink()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(root / "masks/a.jpg")
    assert "a.jpg: label is a JPEG, whose values are not kept exactly" in refused(root, "masks")


def test_masks_among_the_images_have_a_suffix(root):
    for name in ("a", "süb földer/b"):
        write_mask(root / "images" / f"{name}_mask.png", np.eye(HEIGHT, WIDTH, dtype=np.uint8))
    found = convert(root, "images", "--label_suffix=_mask")
    assert equal(found, dict.fromkeys(("a", "süb földer/b"), np.eye(HEIGHT, WIDTH, dtype=np.uint8)))


def test_a_truncated_mask_is_named(root):
    masks(root, lambda draw: indexes(draw, 4))
    data = (root / "masks/a.png").read_bytes()
    for length in (0, 20, len(data) // 2):
        (root / "masks/a.png").write_bytes(data[:length])
        assert "masks/a.png: " in refused(root, "masks")


def test_a_palette_must_not_take_the_ignore_labels_number(root):
    write(root / "palette.txt", PALETTE)
    coloured(root)
    said = refused(root, "masks", f"--palette={root / 'palette.txt'}", "--ignore_label=2")
    assert "--ignore_label=2: also the number of class 'tree'" in said


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("flags", [(), ("--palette=voc",)])
def test_a_mask_of_another_format_under_the_name_of_png_is_refused(root, kind, flags):
    coloured(root)
    for path in (root / "masks").rglob("*.png"):
        Image.new("L", (WIDTH, HEIGHT)).save(path, kind)
    assert "a.png: not a readable image (unknown format); expected PNG" in refused(root, "masks", *flags)
