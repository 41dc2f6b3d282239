"""Facts that a user of an exported file needs and cannot see in it, as plain words that every format stores."""

import json

import deeplab_fast

from ..config import ExportConfig
from ..evaluation.inference import Trained
from ..storage.provenance import weights_digest

Description = dict[str, str]

NAME = "deeplab_fast.json"  # of the description in a file of torch.export
_LAYOUT = {"normalised": "float32 [N,3,H,W]", "rgb": "float32 [N,3,H,W] 0-255", "uint8": "uint8 [N,H,W,3] 0-255"}


def describe(trained: Trained[ExportConfig]) -> Description:
    """Return facts by name: lists as JSON, numbers as digits; the keys are the flags' where there is a flag."""
    config = trained.config
    given = _LAYOUT[config.input_kind]
    shape = "uint8 [N,H,W]" if config.output_kind == "classes" else "float32 [N,C,H,W]"
    return {
        "producer": f"deeplab_fast {deeplab_fast.__version__}",
        "weights_sha256": weights_digest(trained.model),
        "model": config.model,
        "backbone": config.backbone,
        "head": config.head,
        "num_classes": str(config.num_classes),
        "class_names": json.dumps(list(trained.names), ensure_ascii=False),
        "ignore_label": str(config.ignore_label),
        "input_kind": config.input_kind,
        "input": f"{given}, channels RGB",
        "output_kind": config.output_kind,
        "output": f"{shape}, at the input's height and width",
        "mean_rgb": json.dumps(list(config.mean_rgb)),
        "std_rgb": json.dumps(list(config.std_rgb)),
        "size": str(config.size),
        "batch_size": str(config.batch_size),
        "crop_size": str(config.crop_size),
        "protocol": (
            f"the longest side is resized to {config.crop_size} pixels (bilinear), the rest of the square is padded at"
            " the bottom right with 0 after normalisation"
        ),
    }
