import hashlib

import numpy as np

from deeplab_fast.data.synthetic import CLASSES, IGNORE_LABEL, builtin_data, draw_sample


def digest(folder):
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*.*")):
        sha.update(path.name.encode() + path.read_bytes())
    return sha.hexdigest()


def test_the_same_files_every_time(tmp_path):
    a, b = builtin_data(tmp_path / "a", 5, 2), builtin_data(tmp_path / "b", 5, 2)
    assert digest(a) == digest(b)
    assert builtin_data(tmp_path / "a", 5, 2) == a
    assert len((a / "train.txt").read_text().splitlines()) == 5
    assert not list((tmp_path / "a").glob("builtin*tmp*"))


def test_all_classes_and_the_border_occur():
    values = set()
    for i in range(40):
        image, label = draw_sample(i)
        assert image.shape[:2] == label.shape
        values |= set(np.unique(label).tolist())
    assert values == {*range(len(CLASSES)), IGNORE_LABEL}
