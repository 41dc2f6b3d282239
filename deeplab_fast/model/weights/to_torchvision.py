"""Differences between a network of ours and torchvision's own: keys are the same, and tensors do not tell all."""

from deeplab_fast.config import ModelConfig

from ..deeplabv3 import aspp_rates

BUILDERS = {name: f"torchvision.models.segmentation.deeplabv3_{name}" for name in ("resnet50", "resnet101")}
_STRIDE, _RATES = 8, (12, 24, 36)


def reasons_not_to_load(config: ModelConfig) -> list[str]:
    """Return why torchvision's builder of this network does not take all tensors; nothing where it does."""
    reasons = []
    if config.backbone not in BUILDERS:
        reasons.append(f"torchvision builds no DeepLabV3 on {config.backbone}")
    if config.head == "recipe":
        reasons.append("the head of the recipe has no 3x3 convolution before its classifier")
    if len(aspp_rates(config)) != len(_RATES):
        reasons.append(f"ASPP has {len(aspp_rates(config))} atrous branches, torchvision's {len(_RATES)}")
    return reasons


def differences(config: ModelConfig) -> list[str]:
    """Return what makes torchvision's outputs others although all tensors load; nothing where they are the same."""
    found = []
    if config.head == "smp":
        found.append("the smp head aligns corners and its stages are dilated otherwise")
    if config.output_stride != _STRIDE:
        found.append(f"the output stride is {config.output_stride}, torchvision's {_STRIDE}")
    if aspp_rates(config) != _RATES:
        rates, theirs = ("/".join(map(str, one)) for one in (aspp_rates(config), _RATES))
        found.append(f"the ASPP rates are {rates}, torchvision's {theirs}")
    return found
