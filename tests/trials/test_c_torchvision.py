"""torchvision's own files: the same classes, figures and outputs as from torchvision."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast import eval as evaluate_program
from deeplab_fast import export, predict
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.predict import PredictConfig
from tests.trials.foreign import as_training_script_saves, assert_same_outputs, bare_model, network_of, with_statistics
from tests.trials.samples import CLASSES, write_samples

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIDE = 65  # images of this size and --crop_size are not resized


@pytest.fixture(scope="module")
def published(torchvision_segmentation, tmp_path_factory):
    """torchvision's DeepLabV3 (stride 8, rates 12, 24, 36), its file, and images with its class maps."""
    torch.manual_seed(0)
    network = with_statistics(
        torchvision_segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        )
    )
    folder = tmp_path_factory.mktemp("published")
    torch.save(as_training_script_saves(network), folder / "model_0.pth")
    data = write_samples(folder / "data", count=4, size=(SIDE, SIDE))
    return network, folder / "model_0.pth", data


def truth(network, image_file):
    """The class of each pixel by ``network``, and whether it is clear: by more than rounding."""
    from deeplab_fast.ops import decode_image

    image = torch.from_numpy(decode_image(image_file.read_bytes(), str(image_file)).astype(np.float32) / 255)
    with torch.no_grad():
        scores = network(((image - MEAN) / STD).permute(2, 0, 1)[None])["out"][0]
    best = scores.topk(2, dim=0).values
    return scores.argmax(0).numpy(), (best[0] - best[1] > 1e-3).numpy()


def test_c1_predict_gives_torchvision_s_classes(published, tmp_path, caplog):
    network, path, data = published
    flags = [f"--ckpt_path={path}", f"--input={data / 'images'}", f"--output={tmp_path}", f"--crop_size={SIDE}"]
    with caplog.at_level(logging.INFO):
        predict.main([*flags, "--device_target=CPU", "--precision=fp32"])
    assert "output stride 8, ASPP rates 12/24/36, as torchvision has it (otherwise give --model, --aspp_rates)" in (
        caplog.text
    )
    seen = set()
    for image_file in sorted((data / "images").iterdir()):
        expected, clear = truth(network, image_file)
        found = np.asarray(Image.open(tmp_path / f"{image_file.stem}.png"))
        assert clear.mean() > 0.95
        assert (found == expected)[clear].all()
        seen |= set(np.unique(expected))
    assert len(seen) > 1


def test_c1_eval_counts_torchvision_s_classes(published, tmp_path):
    network, path, data = published
    flags = [f"--ckpt_path={path}", f"--data_root={data}", f"--data_lst={data}/train.txt", f"--report={tmp_path}"]
    evaluate_program.main([*flags, f"--crop_size={SIDE}", "--num_workers=0", "--device_target=CPU"])
    found = np.array(json.loads(next(tmp_path.glob("metrics*.json")).read_text())["confusion_matrix"])
    expected, unclear = np.zeros((CLASSES, CLASSES), int), 0
    for line in (data / "train.txt").read_text().splitlines():
        image_file, label_file = (data / name for name in line.split())
        classes, clear = truth(network, image_file)
        np.add.at(expected, (np.asarray(Image.open(label_file)), classes), 1)
        unclear += int((~clear).sum())
    assert found.sum() == expected.sum()
    assert np.abs(found - expected).sum() <= 2 * unclear


def test_c1_export_gives_torchvision_s_outputs(published, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    network, path, _ = published
    export.main([f"--ckpt_path={path}", f"--output={tmp_path / 'm.onnx'}", "--crop_size=33"])
    x = torch.randn(1, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        expected = network(x)["out"]
    assert (torch.from_numpy(found) - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


def test_c1_resnet101_without_the_auxiliary_head(torchvision_segmentation, tmp_path):
    torch.manual_seed(0)
    build = torchvision_segmentation.deeplabv3_resnet101
    theirs = with_statistics(build(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=None))
    config, ours = network_of(theirs.state_dict(), tmp_path / "w.pth")
    assert (config.model, config.backbone, config.head) == ("deeplab_v3_s8", "resnet101", "torchvision")
    assert_same_outputs(ours, lambda x: theirs(x)["out"])


def test_c1_what_no_tensor_tells_is_said_and_flags_and_a_configuration_decide(tmp_path, caplog):
    sentence = "output stride 16, ASPP rates 6/12/18, multi-grid 1/2/4 (otherwise give"
    own = bare_model(model="deeplab_v3_s8")
    with caplog.at_level(logging.INFO):
        config, _ = network_of(own.state_dict(), tmp_path / "w.pth")
        assert config.model == "deeplab_v3_s16"
        assert sentence in caplog.text
        caplog.clear()
        config, _ = network_of(own.state_dict(), tmp_path / "w.pth", model="deeplab_v3_s8")
        assert config.model == "deeplab_v3_s8"
        assert "taken to have ASPP rates 6/12/18, multi-grid 1/2/4 (otherwise give --aspp_rates, --multi_grid)" in (
            caplog.text
        )
        caplog.clear()
        stored = {"format": "deeplab_fast.weights/1", "model": own.state_dict()}
        stored["config"] = {"model": "deeplab_v3_s8", "backbone": "resnet18", "num_classes": CLASSES}
        torch.save(stored, tmp_path / "own.pt")
        config, ours = trained_model(PredictConfig, {"ckpt_path": str(tmp_path / "own.pt")})
    assert "taken to have" not in caplog.text
    assert_same_outputs(ours, own.predict)


def test_c1_another_program_s_config_is_not_taken_for_ours(published, tmp_path):
    network, _, _ = published
    content = {"state_dict": network.state_dict(), "config": {"model": "deeplabv3_resnet50", "backbone": "resnet18"}}
    config, _ = network_of(content, tmp_path / "w.pth")
    assert (config.model, config.backbone) == ("deeplab_v3_s8", "resnet50")
    content["config"] = {"crop_size": 321, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    config, _ = network_of(content, tmp_path / "w.pth")  # the same words, other meanings
    assert (config.crop_size, config.image_mean[0]) == (PredictConfig.crop_size, PredictConfig.image_mean[0])
