"""Data sets that can be downloaded: their archives, and what is in them. Data, no code.

Sizes and digests are those that their publishers and torchvision 0.28 give.
"""

from dataclasses import dataclass

from deeplab_fast.data.voc import SBD_DIR, VOC_DIR
from deeplab_fast.storage.remote import RemoteFile


@dataclass(frozen=True)
class PublishedData:
    """A data set in one archive: its folder there, and so below the data's root, and paths that must be in it."""

    archive: RemoteFile
    folder: str
    holds: tuple[str, ...]
    terms: str


_VOC_ARCHIVE = "VOCtrainval_11-May-2012.tar"

PUBLISHED = {
    "voc2012": PublishedData(
        RemoteFile(
            _VOC_ARCHIVE,
            (
                f"http://host.robots.ox.ac.uk/pascal/VOC/voc2012/{_VOC_ARCHIVE}",
                f"https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/{_VOC_ARCHIVE}",
            ),
            md5="6cd6e144f989b92b3379bac3b3de84fd",
            size=1_999_639_040,
        ),
        VOC_DIR,
        (
            "JPEGImages",
            "SegmentationClass",
            "ImageSets/Segmentation/train.txt",
            "ImageSets/Segmentation/val.txt",
        ),
        "images of Flickr, under its terms of use",
    ),
    "sbd": PublishedData(
        RemoteFile(
            "benchmark.tgz",
            ("https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",),
            md5="82b4d87ceb2ed10f6038a1cba92111cb",
        ),
        SBD_DIR,
        ("img", "cls", "train.txt", "val.txt"),
        "annotations of VOC's images, whose terms hold",
    ),
}
