"""VOC's devkit and SBD, small."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from deeplab_fast.data import voc


def write_devkit(root):
    """Three VOC images (2 train, 1 val) and four of SBD, two of them VOC's, with ids that need stripping."""
    base, sbd = root / voc.VOC_DIR, root / voc.SBD_DIR
    for folder in (
        base / "JPEGImages",
        base / "SegmentationClass",
        base / "ImageSets/Segmentation",
        sbd / "img",
        sbd / "cls",
    ):
        folder.mkdir(parents=True)
    (base / "ImageSets/Segmentation/train.txt").write_text("t1 \r\nt2\n\n")
    (base / "ImageSets/Segmentation/val.txt").write_text("v1\n")
    (sbd / "train.txt").write_text("t1\n s1 \n")
    (sbd / "val.txt").write_text("v1\r\ns2\n")
    rng = np.random.default_rng(0)
    for name in ("t1", "t2", "v1"):
        Image.new("RGB", (8, 6)).save(base / "JPEGImages" / f"{name}.jpg")
        label = Image.fromarray(rng.integers(0, 21, (6, 8), np.uint8)).convert("P")
        label.putpalette(list(range(256)) * 3)
        label.save(base / "SegmentationClass" / f"{name}.png")
    for name in ("t1", "v1", "s1", "s2"):
        Image.new("RGB", (8, 6)).save(sbd / "img" / f"{name}.jpg")
        structure = np.zeros((1, 1), dtype=[("Segmentation", object)])
        structure[0, 0]["Segmentation"] = np.full((6, 8), 7, np.uint8)
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": structure})
    return root
