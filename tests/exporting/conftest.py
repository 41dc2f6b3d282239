"""A small network's checkpoint (one block a stage, traced in seconds), photo-like images, and what is made of them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast import export
from deeplab_fast.config import ModelConfig
from deeplab_fast.data.synthetic import draw_sample
from deeplab_fast.model import build_model
from deeplab_fast.model.resnet import ARCHITECTURES, Architecture, BasicBlock

NAMES = ["background", "Böden", "sky", "tree"]


@contextmanager
def one_block_a_stage():
    """Let resnet18 be smaller, here alone: the tests of other folders run in the same process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "resnet18", Architecture(BasicBlock, (1, 1, 1, 1)))
        yield


@pytest.fixture(autouse=True)
def small_resnet():
    with one_block_a_stage():
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Checkpoints by head, in a folder with a space and an umlaut in its name."""
    folder = tmp_path_factory.mktemp("weights") / "die Größe"
    folder.mkdir()
    paths = {}
    for head in ("recipe", "torchvision"):
        flags = {"backbone": "resnet18", "num_classes": 4, "head": head, "crop_size": 97}
        torch.manual_seed(0)
        with one_block_a_stage():
            model = build_model(ModelConfig(backbone="resnet18", num_classes=4, head=head))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        stored = {"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": flags, "names": NAMES}
        paths[head] = folder / f"{head}.pt"
        torch.save(stored, paths[head])
    return paths


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Images and labels of four classes, listed, of odd sizes."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    lines = []
    for index in range(4):
        image, label = draw_sample(index)
        name = f"{index} ü"
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
        Image.fromarray(np.where(label == 255, 255, label % 4).astype(np.uint8)).save(folder / "labels" / f"{name}.png")
        lines.append(f"images/{name}.png\tlabels/{name}.png\n")
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def exported(checkpoints, once):
    """Function from flags to a file, each exported once: its weights are those of every process of the tests."""

    def path_of(name, *flags, head="recipe"):
        def make(path):
            with one_block_a_stage():
                assert export.main([f"--ckpt_path={checkpoints[head]}", f"--output={path}", *flags]) == 0

        return once(name, make)

    return path_of


@pytest.fixture(scope="session")
def onnx_file(exported):
    pytest.importorskip("onnxruntime")
    return exported("uint8.onnx", "--input_kind=uint8", "--output_kind=classes")


@pytest.fixture(scope="session")
def pt2_file(exported):
    return exported("rgb.pt2", "--format=pt2", "--input_kind=rgb", "--output_kind=probabilities", head="torchvision")
