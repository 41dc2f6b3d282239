"""Networks with weights of others, and what this program makes of their files."""

import argparse
from pathlib import Path

import torch
from torch import nn

from deeplab_fast.config import ModelConfig
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.model import build_model
from deeplab_fast.predict import PredictConfig
from tests.trials.samples import CLASSES


def with_statistics(network):
    """``network`` in evaluation mode, with running statistics that are not the initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def as_training_script_saves(network, **args):
    """What torchvision's references/segmentation/train.py writes."""
    return {
        "model": network.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "lr_scheduler": {"last_epoch": 3, "_last_lr": [0.01]},
        "epoch": 0,
        "args": argparse.Namespace(data_path=Path("/data"), lr=0.01, aux_loss=True, device="cuda", **args),
    }


def network_of(content, path, **flags):
    """Configuration and network that evaluation, prediction and export make of a file."""
    torch.save(content, path)
    return trained_model(PredictConfig, {"ckpt_path": str(path), **flags})


def bare_model(backbone="resnet18", **options):
    torch.manual_seed(1)
    return with_statistics(build_model(ModelConfig(backbone=backbone, num_classes=CLASSES, **options)))


def assert_same_outputs(ours, theirs, size=(97, 65)):
    """``theirs`` maps images to logits of their size."""
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs(x), ours.predict(x)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)
