"""The ``config.json`` of a network's folder, beside weights that it may describe."""

import hashlib
import json

import torch
from safetensors.torch import save

from deeplab_fast.config import SegmenterConfig
from deeplab_fast.evaluation.inference import stored_config, stored_names
from deeplab_fast.model.weights.model_folder import read_folder

from .target import Target, plain

WEIGHTS = save({"backbone.conv1.weight": torch.zeros(1)})
SHA256 = {"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest()}


def read(data, folder):
    (folder / "config.json").write_bytes(data)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    file = read_folder(folder)
    config = SegmenterConfig(**stored_config(file, SegmenterConfig))
    names = stored_names(file, config.num_classes)
    assert len(names) in (0, config.num_classes)


def described(**values):
    said = {"format": "deeplab_fast.pretrained/1", "config": {}, "sha256": SHA256}
    return json.dumps(said | values).encode()


def seeds():
    sizes = {
        "num_classes": 2,
        "crop_size": 65,
        "image_mean": [1.0, 2.0, 3.0],
        "dropout": None,
        "flip": True,
        "window": 0,
    }
    yield "whole", described(config=sizes, names=["a", "caf\u00e9"])
    yield "claimed", b'{"format": "deeplab_fast.pretrained/1"}'
    yield "other-weights", described(sha256={"model.safetensors": "0"})
    yield "later", described(format="deeplab_fast.pretrained/2")
    yield "theirs", b'{"model_type": "segformer", "config": {"crop_size": 65}}'
    yield "kinds", described(config={"model": [], "scales_type": {}, "exif": 1, "max_pixels": 1e400}, names={"a": 1})
    yield "nested", b"[" * 200


TARGET = Target("model_folders", read, seeds, plain, cpu_seconds=2, megabytes=64)
