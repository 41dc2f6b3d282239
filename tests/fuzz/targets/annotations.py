"""What labelling tools leave: COCO's, labelme's and CVAT's files, and palettes. Each label is drawn."""

import io
import json
from functools import cache

import numpy as np
from PIL import Image

from deeplab_fast.data.annotations.colours import read_palette
from deeplab_fast.data.annotations.convert import make_label
from deeplab_fast.ops import DEFAULT_DECODING
from deeplab_fast.prepare.label_format import FormatConfig, read_label_set
from tests.fuzz.mutation import mutate_json

from .target import Target, plain

HEIGHT, WIDTH = 24, 32
NAMES = ("a.png", "e\u0301.png")


@cache
def image():
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "PNG")
    return buffer.getvalue()


def reader(name):
    """What reads an input as the file ``name`` beside two images, and draws what it describes."""

    def read(data, folder):
        for image_name in NAMES:
            (folder / image_name).write_bytes(image())
        (folder / name).write_bytes(data)
        source = folder if name == "a.json" else folder / name
        unsupported = "skip" if len(data) % 2 else "error"
        config = FormatConfig(input=str(source), image_dir=str(folder), unsupported=unsupported)
        labels = read_label_set(config, {}, [], "")
        for label in labels.labels:
            drawn, _ = make_label(label, DEFAULT_DECODING)
            assert set(np.unique(drawn)) <= {*range(len(labels.names)), 255}
        " ".join((*labels.names, *labels.left_out)).encode()

    return read


def read_colours(data, folder):
    (folder / "palette.txt").write_bytes(data)
    palette = read_palette(folder / "palette.txt", 255)
    assert len(palette.names) <= 256
    " ".join(palette.names).encode()


def mutate(data, generator, mutate_bytes, most):
    mutated = mutate_json(data, generator) if generator.random() < 0.75 else None
    return (mutated or mutate_bytes(data, most))[:most]


def coco(segmentation, size=(HEIGHT, WIDTH), **more):
    return json.dumps(
        {
            "images": [{"id": 7, "file_name": "a.png", "height": size[0], "width": size[1]}],
            "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "__ignore__"}],
            "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation, **more}],
        }
    ).encode()


def coco_seeds():
    yield "outline", coco([[1, 1, 20, 1, 20, 20.5], [2, 2, 9, 2, 9, 9, 2, 9]])
    yield "runs", coco({"size": [HEIGHT, WIDTH], "counts": [10, 20, HEIGHT * WIDTH - 30]}, iscrowd=1)
    yield "text", coco({"size": [HEIGHT, WIDTH], "counts": "fPP1"})
    yield "far", coco([[-1e8, -5, 1e8, 3, 4, 1e9]])


def labelme(*shapes):
    named = [{"label": "cat", "shape_type": kind, "points": points} for kind, points in shapes]
    return json.dumps({"shapes": named, "imageHeight": HEIGHT, "imageWidth": WIDTH, "imagePath": "a.png"}).encode()


def labelme_seeds():
    yield "polygon", labelme(("polygon", [[1, 1], [20, 2], [9, 22]]), ("polygon", [[-5, 5], [40, 6], [9, 99], [3, 3]]))
    yield "rectangle", labelme(("rectangle", [[20, 20], [1, -1]]), (None, [[1, 1], [5, 1], [3, 3]]))
    yield "circle", labelme(("circle", [[10, 10], [15, 12]]), ("point", [[1, 1]]))


def cvat(*shapes):
    opening = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">'
    task = "<meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    content = f"<annotations>{task}{opening}{''.join(shapes)}</image></annotations>"
    return f'<?xml version="1.0" encoding="utf-8"?>{content}'.encode()


def cvat_seeds():
    yield "polygon", cvat('<polygon label="cat" points="1,1;20.5,2;9,22" z_order="1"/>', '<tag label="cat"/>')
    yield "box", cvat('<box label="cat" xtl="1" ytl="2" xbr="9" ybr="12" rotation="30" z_order="-1"/>')
    yield "mask", cvat('<mask label="cat" rle="2, 3, 4" left="4" top="5" width="3" height="3"/>', "<points/>")


def palettes():
    yield "rgb", b"0 0 0 background\n128 0 0 cat # red\n128, 128, 0 cat\n255 255 255 __ignore__\n"
    yield "hex", b"\xef\xbb\xbf#000000 a\r\n#ff0080 b c\r\n# comment\r\n"


TARGETS = (
    Target("coco", reader("x.json"), coco_seeds, mutate, cpu_seconds=4, megabytes=128),
    Target("labelme", reader("a.json"), labelme_seeds, mutate, cpu_seconds=4, megabytes=128),
    Target("cvat", reader("x.xml"), cvat_seeds, plain, cpu_seconds=4, megabytes=128),
    Target("palettes", read_colours, palettes, plain, cpu_seconds=2, megabytes=64),
)
