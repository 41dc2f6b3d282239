"""From a comparison's flags to the training that both read."""

import pytest
from PIL import Image

from deeplab_fast.compare.plan import completed, training_of
from deeplab_fast.data.sources import FileSource, list_source
from deeplab_fast.errors import UserError
from tests.trials.samples import write_samples


def own(root, **flags):
    files = {"data_root": str(root), "data_lst": f"{root}/train.txt", "val_data_lst": f"{root}/val.txt"}
    return {**files, "num_workers": 0, **flags}


def test_sizes_of_crops_are_the_references_for_an_image_of_median_size(tmp_path):
    write_samples(tmp_path, size=(96, 80))
    config = completed(own(tmp_path, crop_size=481), on_gpu=False)
    run = training_of(config, 5, tmp_path / "run", list_source(tmp_path, tmp_path / "train.txt"))
    base = round(481 * 520 / 480)
    assert (run.min_scale * 80, run.max_scale * 80) == pytest.approx((0.5 * base, 2 * base))
    assert (run.lr_type, run.seed, run.train_epochs, run.eval_epochs, run.warmup_steps) == ("poly", 5, 30, 0, 0)
    assert (run.head, run.precision, run.batch_size) == ("torchvision", "fp32", 8)


def test_images_much_smaller_than_the_crop_are_scaled_as_far_as_the_trainer_goes(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    source = FileSource(tmp_path, ["a.png"], ["a.png"], ["a"])
    config = completed(own(tmp_path, crop_size=481), on_gpu=False)
    assert training_of(config, 1, tmp_path, source).max_scale == 16


def test_the_builtin_data_set_has_its_preset_where_no_flag_says_otherwise():
    config = completed({"epochs": 2, "crop_size": 65}, on_gpu=False)
    assert (config.backbone, config.crop_size, config.epochs, config.num_classes) == ("resnet18", 65, 2, 6)
    assert (config.batch_size, config.precision, config.head) == (8, "fp32", "torchvision")
    assert completed({}, on_gpu=False).epochs == 12


def test_classes_come_from_the_data(tmp_path):
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert completed(own(tmp_path), on_gpu=False).num_classes == 3


def test_no_image_that_can_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    source = FileSource(tmp_path, ["a.png"], ["a.png"], ["a"])
    with pytest.raises(UserError, match=r"^--data_lst=.*train\.txt: none of 1 images can be read, the first: .*a\.png"):
        training_of(completed(own(tmp_path), on_gpu=False), 1, tmp_path, source)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"data_root": "x", "data_lst": "y"}, "--val_data_lst: missing; both are evaluated on held-out data"),
        ({"seeds": 0}, "--seeds=0: expected at least 1"),
        ({"output": ""}, "--output: empty"),
        ({"data_lst": "y", "val_data_lst": "z"}, "--data_root: missing"),
        ({"batch_size": 1}, "--batch_size=1: expected at least 2"),
    ],
)
def test_a_mistake_names_the_flag(flags, words):
    with pytest.raises(UserError, match=f"^{words}"):
        completed(flags, on_gpu=False)
