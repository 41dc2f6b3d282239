"""Names that other projects give to the parts of the same network, and what their files leave unsaid: data, no code.

Our own names are torchvision's. Facts of torchvision 0.28, segmentation_models_pytorch 0.6, mmsegmentation 1.2,
timm 1.0, transformers 4, VainF/DeepLabV3Plus-Pytorch, and MindSpore's model zoo.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Files of one origin: how to know them, what to call their tensors, what they assume."""

    name: str
    signs: tuple[str, ...]  # beginnings of names, each in these files alone
    renamed: tuple[tuple[str, str], ...] = ()  # beginnings and what takes their place; the first that fits
    within: tuple[tuple[str, str], ...] = ()  # parts of names, dots included, and what takes their place; all that fit
    parts: tuple[tuple[str, str], ...] = ()  # what stands between two dots, and what takes its place
    training: tuple[str, ...] = ()  # beginnings of names that belong to the training, not to the network
    channels: str = "rgb"  # the order in which the network takes an image's colours where nothing else is said
    head: str = ""  # the --head of these files; "": as the tensors say
    model: str = "deeplab_v3_s8"  # the stride that their training script has where nothing else is said
    refused: str = ""  # what makes it another network although all names fit

    def rename(self, key: str) -> str:
        """Return the name that our networks give to a tensor of these files."""
        for old, new in self.renamed:
            if key.startswith(old):
                key = new + key[len(old) :]
                break
        for old, new in self.within:
            key = key.replace(old, new)
        names = dict(self.parts)
        return ".".join(names.get(part, part) for part in key.split("."))


TORCHVISION = Family("torchvision", ())
RESNET_PARTS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
_MINDSPORE_PARTS = (
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
    ("down_sample_layer", "downsample"),
)
_MINDSPORE_TRAINING = ("moments.", "accum.", "learning_rate", "momentum", "global_step", "epoch_num", "step_num")
MINDSPORE = Family(
    "the MindSpore recipe of DeepLabV3",
    ("resnet.bn1.gamma", "aspp.bn1.gamma"),
    (
        ("resnet.", "backbone."),
        *((f"aspp.aspp{i + 1}.aspp_conv.", f"classifier.0.convs.{i}.") for i in range(4)),
        ("aspp.aspp_pooling.conv.0.", "classifier.0.convs.4.1."),
        ("aspp.aspp_pooling.conv.1.", "classifier.0.convs.4.2."),
        ("aspp.conv1.", "classifier.0.project.0."),
        ("aspp.bn1.", "classifier.0.project.1."),
        ("aspp.conv2.", "classifier.4."),
    ),
    parts=_MINDSPORE_PARTS,
    training=_MINDSPORE_TRAINING,
    channels="bgr",
    head="recipe",
)
FAMILIES = (
    MINDSPORE,
    Family(
        "a ResNet classifier of MindSpore's model zoo",
        ("bn1.gamma", "layer1.0.bn1.gamma"),
        tuple((f"{part}.", f"backbone.{part}.") for part in RESNET_PARTS),
        parts=_MINDSPORE_PARTS,
        training=_MINDSPORE_TRAINING,
    ),
    Family(
        "a ResNet of Hugging Face transformers",
        ("resnet.embedder.embedder.", "embedder.embedder."),
        tuple(
            (model + old, new)
            for model in ("resnet.", "")  # a classifier, or the model alone
            for old, new in (
                ("embedder.embedder.convolution.", "backbone.conv1."),
                ("embedder.embedder.normalization.", "backbone.bn1."),
                *((f"encoder.stages.{i}.", f"backbone.layer{i + 1}.") for i in range(4)),
                ("classifier.1.", "fc."),
            )
        ),
        within=(
            (".layers.", "."),
            (".shortcut.convolution.", ".downsample.0."),
            (".shortcut.normalization.", ".downsample.1."),
            *((f".layer.{i}.convolution.", f".conv{i + 1}.") for i in range(3)),
            *((f".layer.{i}.normalization.", f".bn{i + 1}.") for i in range(3)),
        ),
    ),
    Family(
        "a ResNet of PaddlePaddle's paddle.vision",
        ("bn1._mean", "bn1._variance"),
        (
            *((f"{part}.", f"backbone.{part}.") for part in RESNET_PARTS),
            ("fc.", "classification_head."),  # its weight lies the other way round
        ),
        parts=(("_mean", "running_mean"), ("_variance", "running_var")),
    ),
    Family(
        "segmentation_models_pytorch with an encoder of timm",
        ("encoder.model.",),
        (("encoder.model.", "backbone."),),
        refused="an encoder of timm, dilated otherwise (the 'tu-' of segmentation_models_pytorch)",
    ),
    Family(
        "segmentation_models_pytorch",
        ("segmentation_head.", "encoder.layer1."),
        (
            ("encoder.", "backbone."),
            ("decoder.aspp.convs.", "classifier.0.convs."),
            ("decoder.aspp.project.", "classifier.0.project."),
            ("decoder.conv.", "classifier.1."),
            ("decoder.bn.", "classifier.2."),
            ("decoder.0.convs.", "classifier.0.convs."),  # until release 0.3
            ("decoder.0.project.", "classifier.0.project."),
            ("decoder.1.weight", "classifier.1.weight"),
            ("decoder.2.", "classifier.2."),
            ("segmentation_head.0.", "classifier.4."),
        ),
        head="smp",
    ),
    Family("mmsegmentation", ("decode_head.",)),
    Family(
        "VainF/DeepLabV3Plus-Pytorch",
        ("classifier.classifier.", "classifier.aspp."),
        (("classifier.classifier.", "classifier."),),
        model="deeplab_v3_s16",
    ),
    Family(  # of torchvision and timm alike
        "a ResNet classifier",
        ("conv1.", "layer1."),
        tuple((f"{part}.", f"backbone.{part}.") for part in RESNET_PARTS),
    ),
)

# Heads that this network does not have; they are passed over.
UNUSED = (
    "aux_classifier.",
    "auxiliary_head.",
    "classification_head.",
    "backbone.fc.",
    "fc.",
    "end_point.",
    "n_averaged",
)

# The last layer of a classifier of images, by the beginnings of its names: weight [classes, features] and bias.
IMAGE_CLASSIFIERS = ("fc.", "backbone.fc.", "end_point.")

# Backbones of the same names that compute something else, by names that only they have.
OTHER_BACKBONES = (
    (re.compile(r"backbone\.(stem\.|conv1\.\d)"), "a stem of three convolutions (ResNet-C or -D)"),
    (re.compile(r"backbone\.layer\d\.0\.downsample\.2\."), "shortcuts with pooling (ResNet-D)"),
    (re.compile(r"backbone\.layer\d\.\d+\.(se|se_module)\."), "squeeze-and-excitation"),
)
# Heads likewise: whole networks that cannot be evaluated here; their backbones can be trained from.
OTHER_HEADS = (
    (re.compile(r"decode_head\.aspp_modules\."), "mmsegmentation's ASPP, whose last convolution is 3x3 instead of 1x1"),
    (re.compile(r"decode_head\."), "a head of mmsegmentation"),
    (re.compile(r"classifier\.(aspp|project)\.|decoder\.(block\d|aspp\.0)\."), "the decoder of DeepLabV3+"),
    (re.compile(r"decoder\."), "another decoder than DeepLabV3's"),
    (re.compile(r"classifier\.0\.(weight|bias)"), "the head of an FCN"),
    (re.compile(r"classifier\.0\.convs\.\d+\.0\.\d\."), "ASPP of separable convolutions"),
)


def family_of(names: Iterable[str]) -> Family:
    """Return the family that a file's names show, torchvision's where they show none."""
    names = list(names)
    for family in FAMILIES:
        if any(name.startswith(family.signs) for name in names):
            return family
    return TORCHVISION


def reason_in(table: Iterable[tuple[re.Pattern[str], str]], names: Iterable[str]) -> str | None:
    """Return what the first pattern that matches one of ``names`` stands for, or None."""
    names = list(names)
    return next((reason for pattern, reason in table if any(pattern.match(name) for name in names)), None)
