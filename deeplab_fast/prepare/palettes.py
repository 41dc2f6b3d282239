"""Palettes of known data sets, and those of files."""

from pathlib import Path

from deeplab_fast.data.annotations.colours import EXPECTED, Colour, Palette, make_palette, read_palette
from deeplab_fast.data.annotations.numbering import IGNORED
from deeplab_fast.data.classes import VOC
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.palette import palette as voc_colours

# The 32 colours of CamVid (Brostow et al., 2009), grouped to 11 classes as SegNet's authors and others do.
CAMVID: dict[str, list[Colour]] = {
    "sky": [(128, 128, 128)],
    "building": [(128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)],
    "pole": [(192, 192, 128), (0, 0, 64)],
    "road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    "pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    "tree": [(128, 128, 0), (192, 192, 0)],
    "sign": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    "fence": [(64, 64, 128)],
    "car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    "pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    "bicyclist": [(0, 128, 192), (192, 0, 192)],
    IGNORED: [(0, 0, 0)],
}

# Cityscapes' 19 classes of training in the order of their train ids (Cordts et al., 2016), and its other colours.
CITYSCAPES: dict[str, list[Colour]] = {
    "road": [(128, 64, 128)],
    "sidewalk": [(244, 35, 232)],
    "building": [(70, 70, 70)],
    "wall": [(102, 102, 156)],
    "fence": [(190, 153, 153)],
    "pole": [(153, 153, 153)],
    "traffic light": [(250, 170, 30)],
    "traffic sign": [(220, 220, 0)],
    "vegetation": [(107, 142, 35)],
    "terrain": [(152, 251, 152)],
    "sky": [(70, 130, 180)],
    "person": [(220, 20, 60)],
    "rider": [(255, 0, 0)],
    "car": [(0, 0, 142)],
    "truck": [(0, 0, 70)],
    "bus": [(0, 60, 100)],
    "train": [(0, 80, 100)],
    "motorcycle": [(0, 0, 230)],
    "bicycle": [(119, 11, 32)],
    IGNORED: [
        (0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
        (150, 120, 90), (0, 0, 90), (0, 0, 110),
    ],
}  # fmt: skip

_VOC_EDGE = (224, 224, 192)


def _voc() -> dict[str, list[Colour]]:
    colours = [(int(red), int(green), int(blue)) for red, green, blue in voc_colours(len(VOC))]
    return {**{name: [colour] for name, colour in zip(VOC, colours, strict=True)}, IGNORED: [_VOC_EDGE]}


_KNOWN = {"voc": _voc, "camvid": lambda: CAMVID, "cityscapes": lambda: CITYSCAPES}


def open_palette(given: str, ignore_label: int) -> Palette:
    """Return the palette that ``--palette`` names: a data set's, or a file's.

    Raises:
        UserError: no such palette, or the file is none.
    """
    if known := _KNOWN.get(given.lower()):
        entries = [(colour, name) for name, colours in known().items() for colour in colours]
        return make_palette(entries, ignore_label, f"--palette={given}")
    path = Path(given)
    if not path.is_file():
        raise UserError(f"--palette={given}: no such file; expected {', '.join(_KNOWN)}, or a file of {EXPECTED}")
    return read_palette(path, ignore_label)
