"""DeepLabV3: an atrous ResNet, ASPP and a 1x1 classifier, built from the configuration's names."""

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.ops import upsample

from .aspp import ASPP, CHANNELS
from .batch_norm import BatchNorm2d, count_batches, freeze_batch_norm
from .convolve import convolve
from .resnet import ARCHITECTURES, ResNet, recipe_stages, torchvision_stages

CLASSIFIER = "classifier.4"  # the last convolution's key in both heads, as in torchvision


class Head(nn.Sequential):
    """ASPP, torchvision's extra 3x3 convolution where asked for, and the classifier, under torchvision's keys."""

    def __init__(self, aspp: ASPP, num_classes: int, extra: bool) -> None:
        layers: list[tuple[str, nn.Module]] = [("0", aspp), ("4", nn.Conv2d(CHANNELS, num_classes, 1))]
        if extra:
            conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
            layers[1:1] = [("1", conv), ("2", BatchNorm2d(CHANNELS)), ("3", nn.ReLU(inplace=True))]
        super().__init__(OrderedDict(layers))

    def forward(self, input: Tensor) -> Tensor:
        """Return logits ``[N, num_classes, H', W']`` of features ``[N, C, H', W']``."""
        aspp, *extra, classifier = self
        x = aspp(input)
        if extra:
            conv, norm = cast(tuple[nn.Conv2d, BatchNorm2d], tuple(extra[:2]))
            x = norm.conv_norm(conv, x, relu=True)
        return convolve(cast(nn.Conv2d, classifier), x)


class DeepLabV3(nn.Module):
    """Semantic segmentation network; ``forward`` gives low-resolution logits.

    ``[N, 3, H, W]`` normalised images -> ``[N, num_classes, ceil(H / s), ceil(W / s)]`` logits at
    output stride ``s``. The loss and the evaluator upsample them; :meth:`predict` does so itself.
    State-dict keys are those of ``torchvision.models.segmentation.deeplabv3_resnet*``.
    """

    def __init__(self, backbone: ResNet, classifier: Head, align_corners: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.align_corners = align_corners
        self._norms = [module for module in self.modules() if isinstance(module, BatchNorm2d)]
        for norm in self._norms:
            norm.counts_later = True

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[N, num_classes, H', W']``, at the output stride, of images ``[N, 3, H, W]``."""
        logits = self.classifier(self.backbone(x))
        count_batches(self._norms)
        return logits

    def predict(self, x: Tensor) -> Tensor:
        """Return logits at the input's resolution: ``[N, 3, H, W]`` -> ``[N, num_classes, H, W]``."""
        return upsample(self(x), (x.shape[-2], x.shape[-1]), self.align_corners)


def aspp_rates(config: ModelConfig) -> tuple[int, ...]:
    """Return the configured rates, or the head's: 6, 12, 18, doubled for torchvision's at OS8, for smp's at either."""
    if config.aspp_rates:
        return config.aspp_rates
    doubled = config.head == "smp" or (config.head == "torchvision" and config.output_stride == 8)
    return (12, 24, 36) if doubled else (6, 12, 18)


def build_model(config: ModelConfig) -> DeepLabV3:
    """Build the network that ``config`` names, on the CPU in fp32, initialised for training from scratch.

    Raises:
        UserError: the model or backbone is unknown.
    """
    if config.backbone not in ARCHITECTURES:
        raise UserError(f"--backbone={config.backbone}: expected one of {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[config.backbone]
    stride = config.output_stride
    if config.head == "torchvision":
        stages = torchvision_stages(architecture.blocks, stride)
    else:  # smp dilates as the recipe does without a multi-grid
        stages = recipe_stages(architecture.blocks, stride, config.multi_grid if config.head == "recipe" else (1,))
    backbone = ResNet(architecture, stages)
    aspp = ASPP(backbone.out_channels, aspp_rates(config), config.effective_dropout)
    head = Head(aspp, config.num_classes, extra=config.head != "recipe")
    model = DeepLabV3(backbone, head, align_corners=config.head != "torchvision")
    _initialise(model)
    if config.freeze_bn:
        freeze_batch_norm(model)
    return model


def _initialise(model: nn.Module) -> None:
    """Set Xavier-uniform convolutions and unit BatchNorm, as the recipe does without pretrained weights."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
