"""What a stored configuration says, and what it cannot say."""

import pytest
import torch

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.model import build_model
from deeplab_fast.predict import PredictConfig

CONFIG = {"model": "deeplab_v3_s8", "backbone": "resnet18", "num_classes": 3, "multi_grid": [1, 2, 4], "dropout": None}


@pytest.fixture(scope="module")
def state():
    return build_model(ModelConfig(backbone="resnet18", num_classes=3)).state_dict()


def stored(path, state, **changes):
    torch.save({"format": "deeplab_fast.weights/1", "model": state, "config": {**CONFIG, **changes}}, path)
    return {"ckpt_path": str(path)}


def test_the_stored_configuration_is_followed_and_flags_come_before_it(state, tmp_path):
    config, _ = trained_model(PredictConfig, stored(tmp_path / "w.pt", state, crop_size=65))
    assert (config.model, config.crop_size, config.multi_grid) == ("deeplab_v3_s8", 65, (1, 2, 4))
    config, _ = trained_model(PredictConfig, {"ckpt_path": str(tmp_path / "w.pt"), "model": "deeplab_v3_s16"})
    assert config.model == "deeplab_v3_s16"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_classes", "3"),
        ("num_classes", True),
        ("num_classes", 1),
        ("multi_grid", 4),
        ("multi_grid", ["a"]),
        ("dropout", "half"),
        ("model", "deeplab_v4"),
        ("image_std", [0.0, 1.0, 1.0]),
    ],
)
def test_a_stored_value_that_no_flag_takes_is_one_line(name, value, state, tmp_path):
    with pytest.raises(UserError, match=rf"w\.pt: damaged configuration: --{name}=") as caught:
        trained_model(PredictConfig, stored(tmp_path / "w.pt", state, **{name: value}))
    assert "\n" not in str(caught.value)
