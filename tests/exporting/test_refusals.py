"""A file that differs is not written; wrong flags and images are one line before any work."""

import pytest
import torch
from PIL import Image

from deeplab_fast import export
from deeplab_fast.config import ExportConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import load_trained
from deeplab_fast.exporting.agreement import compare, refuse_difference
from deeplab_fast.exporting.images import batches_of, drawn_images, images_of, spread
from deeplab_fast.exporting.network import ExportedNetwork


@pytest.fixture
def network(checkpoints):
    config, model, _ = load_trained(ExportConfig, {"ckpt_path": str(checkpoints["recipe"])})
    return ExportedNetwork(model, config, "normalised", "probabilities").eval()


def batches():
    return batches_of(drawn_images(65), ExportConfig(crop_size=65))


def test_the_original_agrees_with_itself(network):
    found = compare(network, network, batches())
    refuse_difference(found, "m.onnx")
    assert found.share == 1
    assert found.images == 7


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p + 2e-4,
        lambda p: p * torch.nan,
        lambda p: p.flip(-1),
        lambda p: p[:, [1, 0, 2, 3]],
    ],
    ids=["a little", "nan", "mirrored", "another class"],
)
def test_a_difference_is_refused(network, change):
    found = compare(lambda x: change(network(x)), network, batches())
    with pytest.raises(UserError, match=r"m\.onnx: not written; probabilities agree within .*; expected 1e-04 at most"):
        refuse_difference(found, "m.onnx")


def test_classes_are_compared_alone(network):
    network.output_kind = "classes"
    one_wrong = compare(lambda x: network(x).index_fill(1, torch.tensor([0]), 3), network, batches())
    with pytest.raises(UserError, match=r"not written; labels agree on 9\d\.\d+% of"):
        refuse_difference(one_wrong, "m.onnx")


def test_checked_sizes_are_mixed_and_odd():
    shapes = {tuple(batch.shape) for batch in batches_of(drawn_images(513), ExportConfig())}
    assert len({shape[1:3] for shape in shapes}) == 5
    assert {shape[0] for shape in shapes} == {1, 2}
    assert any(h % 2 and w % 2 and h != w for _, h, w, _ in shapes)
    fixed = batches_of(drawn_images(65), ExportConfig(size=65, batch_size=3))
    assert {tuple(batch.shape) for batch in fixed} == {(3, 65, 65, 3)}


def test_images_that_are_tried_come_from_the_whole_folder(tmp_path):
    for name in range(7):
        Image.new("RGB", (3, 2)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.stem for path in spread(images_of(str(tmp_path), "check_images"), 3)] == ["0", "2", "4"]
    assert spread([], 3) == []
    (batch,) = batches_of(iter([torch.zeros(2, 3, 3, dtype=torch.uint8).numpy()]), ExportConfig())
    assert batch.shape == (1, 17, 17, 3)


MISTAKES = {
    "--size=16": "--size=16: expected at least 17, or 0",
    "--format=pt2 --int8_images=x": "--int8_images=x: needs --format=onnx, not pt2",
    "--data_lst=x": "--data_lst=x: needs --int8_images",
    "--data_root=x": "--data_root=x: needs --data_lst",
    "--format=aoti": "expected a name that ends in .pt2 with --format=aoti",
    "--check_images=nowhere": "--check_images=nowhere: no such folder",
    "--int8_images=empty": "--int8_images=empty: no image; expected files ending in .jpg",
    "--input_kind=bgr": "--input_kind=bgr: expected one of normalised, rgb, uint8",
    "--int8_agreement=2": "--int8_agreement=2.0: expected at most 1",
    "--format=mindspore --size=65": "--size=65: not with --format=mindspore",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_a_mistake_is_one_line_before_the_work(checkpoints, tmp_path, monkeypatch, given):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("torch.export.export", lambda *_, **__: pytest.fail("the work was begun"))
    with pytest.raises(UserError) as error:
        export.main([f"--ckpt_path={checkpoints['recipe']}", f"--output={tmp_path}/m.onnx", *given.split()])
    assert MISTAKES[given] in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_damaged_image_is_named_before_the_work(checkpoints, tmp_path, monkeypatch):
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.setattr("torch.export.export", lambda *_, **__: pytest.fail("the work was begun"))
    flags = [f"--ckpt_path={checkpoints['recipe']}", "--format=pt2", f"--check_images={tmp_path}"]
    with pytest.raises(UserError, match=r"half\.jpg"):
        export.main([*flags, f"--output={tmp_path}/m.pt2"])
