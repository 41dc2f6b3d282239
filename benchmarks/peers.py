"""The peers that we are measured beside, built as fairly as we know how."""

from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.compare.network import import_torchvision


class Torchvision(nn.Module):
    """torchvision's DeepLabV3 without the auxiliary head: ``[N, 3, H, W]`` -> ``[N, C, H, W]``.

    Output stride 8 is its own; at 16 only layer4 is atrous, and the rates are half.
    """

    def __init__(self, backbone: str, num_classes: int, model: str = "deeplab_v3_s16") -> None:
        super().__init__()
        import_torchvision()
        from torchvision.models import resnet
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        atrous, rates = (
            ([False, True, True], (12, 24, 36)) if model.endswith("s8") else ([False, False, True], (6, 12, 18))
        )
        body = getattr(resnet, backbone)(weights=None, replace_stride_with_dilation=atrous)
        self.backbone = IntermediateLayerGetter(body, return_layers={"layer4": "out"})
        self.classifier = DeepLabHead(2048, num_classes, rates)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.classifier(self.backbone(x)["out"])
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)
