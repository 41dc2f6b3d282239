import numpy as np
import pytest
from PIL import Image

from deeplab_fast.data import voc
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.ops import decode_label
from tests.data.devkit import write_devkit


@pytest.fixture
def devkit(tmp_path):
    return write_devkit(tmp_path)


def test_lists_and_labels(devkit):
    results = {r.path.name: r.samples for r in voc.write_lists(devkit)}
    assert results == {"voc_train_lst.txt": 2, "voc_val_lst.txt": 1, "vocaug_train_lst.txt": 4}
    lines = (devkit / "vocaug_train_lst.txt").read_text().splitlines()
    assert [line.split()[0].split("/")[-1] for line in lines] == ["s1.jpg", "s2.jpg", "t1.jpg", "t2.jpg"]
    for line in lines:
        assert all((devkit / part).is_file() for part in line.split())
    grey = Image.open(devkit / voc.VOC_LABELS / "t1.png")
    assert grey.mode == "L"
    assert np.array_equal(np.asarray(grey), np.asarray(Image.open(devkit / voc.VOC_DIR / "SegmentationClass/t1.png")))
    assert (np.asarray(Image.open(devkit / voc.SBD_LABELS / "s1.png")) == 7).all()


def test_again_keeps_what_is_there(devkit):
    voc.write_lists(devkit)
    before = (devkit / voc.VOC_LABELS / "t1.png").stat().st_mtime_ns
    voc.write_lists(devkit)
    assert (devkit / voc.VOC_LABELS / "t1.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("linked", [False, True])
def test_lists_and_labels_written_elsewhere(devkit, tmp_path_factory, linked):
    """The devkit stays as it is, also where it is reached through a link, whose ``..`` is not the folder above."""
    output = tmp_path_factory.mktemp("elsewhere") / "made"
    root = devkit
    if linked:
        root = tmp_path_factory.mktemp("a") / "link"
        root.symlink_to(devkit)
    before = {path: path.lstat().st_mtime_ns for path in (devkit, *devkit.rglob("*"))}
    assert [r.samples for r in voc.write_lists(root, output)] == [2, 1, 4]
    assert {path: path.lstat().st_mtime_ns for path in (devkit, *devkit.rglob("*"))} == before
    source = list_source(root, output / voc.AUG_LIST)
    label = decode_label(source.read(0).label, "x")
    assert label.shape == (6, 8)
    assert (label == 7).all()
    assert (output / "classes.txt").is_file()


def test_complete_lists_that_give_another_count_are_refused(devkit, monkeypatch):
    monkeypatch.setattr(voc, "FULL", {voc.TRAIN_LIST: 2, voc.VAL_LIST: 1, voc.AUG_LIST: 3})
    monkeypatch.setattr(voc, "_FULL_SBD", 4)
    with pytest.raises(UserError, match="4 samples; the full data must give 3"):
        voc.write_lists(devkit)


def test_no_devkit(tmp_path):
    with pytest.raises(UserError, match="no VOCdevkit/VOC2012 in it"):
        voc.write_lists(tmp_path)


def test_damaged_mat(devkit):
    (devkit / voc.SBD_DIR / "cls" / "s1.mat").write_bytes(b"not a mat file")
    with pytest.raises(UserError, match=r"s1\.mat: not an SBD label"):
        voc.write_lists(devkit)


def test_an_id_in_train_and_val(devkit):
    (devkit / voc.VOC_DIR / "ImageSets/Segmentation/val.txt").write_text("t2\n")
    with pytest.raises(UserError, match=r"t2 is in train\.txt and val\.txt"):
        voc.write_lists(devkit)
