"""Exported files give what the original gives, at sizes and batches that no example had, and say what they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.config import ExportConfig
from deeplab_fast.evaluation.inference import load_trained
from deeplab_fast.exporting import aoti_format, save
from deeplab_fast.exporting.network import ExportedNetwork, trace
from deeplab_fast.ops import normalise
from deeplab_fast.storage.provenance import weights_digest

EXAMPLES = Path(__file__).parents[2] / "examples"
UNSEEN = [(1, 17, 17), (1, 18, 203), (3, 61, 130), (2, 96, 33), (1, 200, 177)]  # batch, height, width


def images(n, h, w):
    return torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(h))


def original(checkpoint, pixels):
    """Probabilities by the evaluation's own normalisation and the model, without what the export adds."""
    config, model, _ = load_trained(ExportConfig, {"ckpt_path": str(checkpoint)})
    n, h, w, _ = pixels.shape
    whole = torch.tensor([[0, h, 0, w]] * n, dtype=torch.int32)
    with torch.inference_mode():
        x = normalise(pixels, whole, config.mean_rgb, config.std_rgb, torch.float32)
        return model.predict(x).softmax(1)


@pytest.mark.parametrize("shape", UNSEEN)
def test_onnx_takes_any_batch_and_size(onnx_file, checkpoints, shape):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    (given,), (got,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("image", ["batch", "height", "width", 3], "tensor(uint8)")
    assert (got.name, got.shape, got.type) == ("classes", ["batch", "height", "width"], "tensor(uint8)")
    pixels = images(*shape)
    (classes,) = session.run(None, {"image": pixels.numpy()})
    expected = original(checkpoints["recipe"], pixels).argmax(1).numpy()
    assert classes.shape == expected.shape
    assert (classes == expected).mean() >= 0.9999


@pytest.fixture(scope="module")
def pt2(pt2_file):
    extra = {"deeplab_fast.json": ""}
    return torch.export.load(pt2_file, extra_files=extra).module(), json.loads(extra["deeplab_fast.json"])


@pytest.mark.parametrize("shape", UNSEEN)
def test_pt2_takes_any_batch_and_size(pt2, checkpoints, shape):
    pixels = images(*shape)
    found = pt2[0](pixels.permute(0, 3, 1, 2).float())
    assert (found - original(checkpoints["torchvision"], pixels)).abs().max() <= 1e-4


def test_onnx_says_what_it_is(onnx_file, checkpoints):
    import onnx

    about = {entry.key: entry.value for entry in onnx.load(onnx_file).metadata_props}
    _, model, names = load_trained(ExportConfig, {"ckpt_path": str(checkpoints["recipe"])})
    assert json.loads(about["class_names"]) == list(names)
    assert json.loads(about["mean_rgb"]) == [123.675, 116.28, 103.53]
    assert about["weights_sha256"] == weights_digest(model)
    assert (about["crop_size"], about["ignore_label"], about["size"]) == ("97", "255", "0")
    assert (about["input_kind"], about["output_kind"]) == ("uint8", "classes")


def test_pt2_says_what_it_is(pt2):
    about = pt2[1]
    assert about["producer"].startswith("deeplab_fast ")
    assert (about["input_kind"], about["head"], about["num_classes"]) == ("rgb", "torchvision", "4")


def test_a_fixed_size_is_in_the_file(exported):
    path = exported("fixed.pt2", "--format=pt2", "--size=65", "--batch_size=1", "--output_kind=classes")
    network = torch.export.load(path).module()
    assert network(torch.zeros(1, 3, 65, 65)).shape == (1, 65, 65)
    with pytest.raises(Exception, match=r"shape|Guard|65"):
        network(torch.zeros(1, 3, 66, 65))


@pytest.mark.parametrize("example", ["onnx_segment.py", "pt2_segment.py"])
def test_the_examples_segment_without_this_package(request, exported, checkpoints, photos, tmp_path, example):
    """Both resize a photo to the crop size and pad it to the square, as the protocol does."""
    if example.startswith("onnx"):
        file = request.getfixturevalue("onnx_file")
    else:
        file = exported("uint8.pt2", "--format=pt2", "--input_kind=uint8", "--output_kind=classes")
    photo = photos / "images" / "1 ü.png"
    code = f"import sys, runpy; sys.modules['deeplab_fast'] = None; runpy.run_path({str(EXAMPLES / example)!r})"
    command = [sys.executable, "-c", code, str(file), str(photo), str(tmp_path / "classes.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    picture = Image.open(photo)
    scale = 97 / max(picture.size)
    small = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
    square = Image.new("RGB", (97, 97), (124, 116, 104))
    square.paste(small)
    square = torch.from_numpy(np.array(square))[None]
    classes = original(checkpoints["recipe"], square).argmax(1)[0, : small.height, : small.width]
    expected = Image.fromarray(classes.numpy().astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)
    assert (np.array(Image.open(tmp_path / "classes.png")) == np.array(expected)).mean() >= 0.999
    assert len(done.stdout.splitlines()) == len(classes.unique())


@pytest.mark.slow
def test_aoti_is_compiled_for_any_size_and_says_what_it_is(exported, checkpoints, photos, tmp_path):
    path = exported("compiled.pt2", "--format=aoti", "--input_kind=uint8", "--output_kind=classes")
    package = torch._inductor.aoti_load_package(str(path))
    for shape in UNSEEN:
        pixels = images(*shape)
        expected = original(checkpoints["recipe"], pixels).argmax(1)
        assert (package(pixels) == expected).float().mean() >= 0.9999
    assert json.loads(package.get_metadata()["class_names"])[2] == "sky"
    photo = photos / "images" / "0 ü.png"
    command = [sys.executable, str(EXAMPLES / "pt2_segment.py"), str(path), str(photo), str(tmp_path / "c.png")]
    subprocess.run(command, capture_output=True, check=True)
    assert Image.open(tmp_path / "c.png").size == Image.open(photo).size


def test_aoti_needs_a_compiler(checkpoints, tmp_path, monkeypatch):
    from deeplab_fast import export
    from deeplab_fast.errors import UserError

    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(tmp_path / "no-compiler")))
    monkeypatch.setattr(save, "trace", lambda *_: pytest.fail("the work was begun"))
    flags = [f"--ckpt_path={checkpoints['recipe']}", "--format=aoti", f"--output={tmp_path / 'm.pt2'}"]
    with pytest.raises(UserError, match=r"--format=aoti: needs a C\+\+ compiler"):
        export.main(flags)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_compiler_is_one_line(monkeypatch, tmp_path):
    from torch._inductor.exc import CppCompileError

    from deeplab_fast.errors import UserError

    def fail(*args, **options):
        raise CppCompileError(["g++"], "x.cpp:1:1: fatal error: no room")

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)
    with pytest.raises(UserError, match=r"--format=aoti: the C\+\+ compiler failed \(.*no room"):
        aoti_format.write_aoti(None, None, {}, tmp_path / "m.pt2")


def test_logits_are_those_of_the_network(checkpoints):
    """The default, normalised images to logits, is the network's own prediction, to fp32's rounding."""
    config, model, _ = load_trained(ExportConfig, {"ckpt_path": str(checkpoints["recipe"])})
    network = ExportedNetwork(model, config, "normalised", "logits")
    program = trace(network, config)
    x = torch.randn(1, 3, 40, 71, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(x), model.predict(x), rtol=1e-4, atol=1e-5)
