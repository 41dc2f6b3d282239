"""Classes and their names come from the data."""

import shutil

import pytest

from deeplab_fast import prepare
from deeplab_fast.errors import UserError


def test_b10_the_number_of_classes_comes_from_the_data(samples, capsys):
    from deeplab_fast.training.presets import resolve

    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    of_list = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    data = [f"--{name}={text}" for name, text in of_list.items()]
    prepare.main(["records", *data, f"--dst_path={samples}/r/set.tar", "--ignore_label=254"])
    assert prepare.main(["check", f"--data_file={samples}/r/set.tar"]) == 0
    assert prepare.main(["check", *data]) == 0
    assert "tree" in capsys.readouterr().out
    assert resolve(of_list, on_gpu=False).num_classes == 3
    config = resolve({"data_file": f"{samples}/r/set.tar"}, on_gpu=False)
    assert (config.num_classes, config.ignore_label) == (3, 254)


@pytest.mark.parametrize("described", ["classes.txt", "dataset.json"])
def test_b10_a_contradiction_is_an_error(samples, described):
    from deeplab_fast.training.presets import resolve

    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    data = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    if described == "dataset.json":
        flags = [f"--{name}={text}" for name, text in data.items()]
        prepare.main(["records", *flags, f"--dst_path={samples}/r/set.tar", "--num_classes=3"])
        data = {"data_file": f"{samples}/r/set.tar"}
    words = f"--num_classes=4: .*{described} names 3 classes; expected --num_classes=3"
    with pytest.raises(UserError, match=words):
        resolve({**data, "num_classes": 4}, on_gpu=False)
    with pytest.raises(UserError, match=words):
        prepare.main(["check", *(f"--{name}={text}" for name, text in data.items()), "--num_classes=4"])


def test_b10_held_out_classes_in_another_order_are_refused(samples):
    from deeplab_fast.training.presets import resolve
    from deeplab_fast.training.sources import Sources

    (samples / "held_out").mkdir()
    shutil.copy(samples / "val.txt", samples / "held_out")
    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    (samples / "held_out/classes.txt").write_text("sky\nroad\ntree\n")
    flags = {"data_root": str(samples), "data_lst": f"{samples}/train.txt"}
    with pytest.raises(UserError, match=r"held_out/classes\.txt: class 0 is 'sky'; expected 'road'"):
        Sources.open(resolve({**flags, "val_data_lst": f"{samples}/held_out/val.txt", "num_classes": 3}, on_gpu=False))


def test_b10_no_description_is_said(samples, log):
    from deeplab_fast.training.presets import resolve

    data = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    assert resolve(data, on_gpu=False).num_classes == 21
    assert "--num_classes: not given, and no classes.txt or dataset.json with the data: 21 classes" in log.text
