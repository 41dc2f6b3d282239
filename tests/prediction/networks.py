"""A small network with random weights, saved as training does it, that gives several classes."""

from functools import cache

import numpy as np
import torch

from deeplab_fast.config import ModelConfig
from deeplab_fast.model import build_model

NAMES = ["ground", "tree", "sea"]


@cache
def network():
    """A network whose statistics are of such images as :func:`picture` makes."""
    torch.manual_seed(3)
    model = build_model(ModelConfig(backbone="resnet18", num_classes=len(NAMES))).train()
    with torch.no_grad():
        noise = torch.nn.functional.interpolate(torch.randn(8, 3, 9, 9), 65, mode="bilinear")
        for _ in range(10):
            model(noise)  # running statistics of something like images
        model.eval()
        logits = model(noise)
        model.classifier[-1].weight.mul_(5 / logits.std())
        model.classifier[-1].bias.copy_(-5 * logits.mean((0, 2, 3)) / logits.std())
    return model


def save_network(path, crop_size=65, **content):
    """Save :func:`network` with what else a file may hold."""
    model = network()
    config = {"backbone": "resnet18", "num_classes": len(NAMES), "crop_size": crop_size}
    torch.save({"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": config, **content}, path)
    return path


def picture(height, width, seed=0):
    """Smooth noise, uint8 ``[H, W, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(1, 3, max(2, height // 12), max(2, width // 12), generator=generator)
    smooth = torch.nn.functional.interpolate(cells, (height, width), mode="bilinear")
    return (255 * smooth[0]).permute(1, 2, 0).numpy().astype(np.uint8)
