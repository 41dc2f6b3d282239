"""torchvision's DeepLabV3 by torchvision's parts, also where it has no builder for it; and its import."""

import importlib
from collections import OrderedDict
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.errors import UserError

_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # 8 is its own; halved with the resolution


def import_torchvision() -> ModuleType:
    """Return torchvision, imported also where its compiled operators do not fit this torch.

    A CPU build of torch has no wheel of torchvision's everywhere. Only the schemas of two detection operators are
    missing then; segmentation never calls them.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        raise UserError(
            "torchvision: not installed; pip install torchvision (beside a CPU build of torch: --no-deps)"
        ) from None
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.keep_alive = library  # type: ignore[attr-defined]
        return importlib.import_module("torchvision")


class ReferenceNetwork(nn.Module):
    """torchvision's segmentation network: ``[N, 3, H, W]`` to ``out``, and ``aux`` if it has the head, at that size.

    Keys are those of ``torchvision.models.segmentation.deeplabv3_resnet*``.
    """

    def __init__(self, backbone: str, num_classes: int, output_stride: int, aux: bool = False) -> None:
        super().__init__()
        import_torchvision()
        from torchvision.models import resnet
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead
        from torchvision.models.segmentation.fcn import FCNHead

        body = _atrous(resnet, backbone, output_stride)
        layers = {"layer4": "out", **({"layer3": "aux"} if aux else {})}
        channels = body.fc.in_features
        self.backbone = IntermediateLayerGetter(body, return_layers=layers)
        self.classifier = DeepLabHead(channels, num_classes, _RATES[output_stride])
        self.aux_classifier = FCNHead(channels // 2, num_classes) if aux else None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return logits ``[N, num_classes, H, W]`` of ``[N, 3, H, W]`` by the head's name."""
        features, size = self.backbone(x), x.shape[-2:]
        found = OrderedDict(out=self.classifier(features["out"]))
        if self.aux_classifier is not None:
            found["aux"] = self.aux_classifier(features["aux"])
        return {k: F.interpolate(v, size=size, mode="bilinear", align_corners=False) for k, v in found.items()}

    def without_aux(self) -> dict[str, Tensor]:
        """Return the state without the auxiliary head's."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("aux_classifier.")}


def _atrous(resnet: ModuleType, backbone: str, output_stride: int) -> Any:
    """Build torchvision's classifier with stride replaced by dilation; its basic blocks (18, 34) refuse to.

    They are changed as its bottlenecks are: a stage's first block keeps the dilation of the stage before.
    """
    replaced = [False, output_stride == 8, True]
    if backbone not in ("resnet18", "resnet34"):
        return getattr(resnet, backbone)(weights=None, replace_stride_with_dilation=replaced)
    body = getattr(resnet, backbone)(weights=None)
    before = 1
    for stage in (body.layer3, body.layer4) if output_stride == 8 else (body.layer4,):
        after = 2 * before
        stage[0].conv1.stride = stage[0].downsample[0].stride = (1, 1)
        for number, block in enumerate(stage):
            rate = before if number == 0 else after
            for conv in (block.conv1, block.conv2):
                conv.dilation = conv.padding = (rate, rate)
        before = after
    return body
