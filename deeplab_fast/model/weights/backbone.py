"""A backbone alone from a file: a ResNet classifier's, or a network's whose head is not ours."""

from torch import Tensor, nn

from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError

from ..deeplabv3 import build_model
from ..resnet import ARCHITECTURES
from .families import IMAGE_CLASSIFIERS, OTHER_BACKBONES, OTHER_HEADS, reason_in
from .infer import describe_backbone, infer_config
from .load import start_from
from .read import WeightFile
from .tensors import usable


def is_backbone_alone(file: WeightFile) -> bool:
    """Tell whether a file has no head, or one that cannot be built here, beside its backbone."""
    if file.family.refused or reason_in(OTHER_HEADS, file.tensors) is not None:
        return True
    return not any(key.startswith("classifier.") for key in file.tensors)


def backbone_of(file: WeightFile) -> tuple[str, dict[str, Tensor]]:
    """Return the backbone's name and its tensors, of our shapes and under our names, in fp32.

    The last layer of a classifier of images goes along as ``fc.weight`` ``[classes, features]`` and ``fc.bias``. The
    log has the table of what matched.

    Raises:
        UserError: it is another backbone than ours, is not whole, or a tensor holds no weights.
    """
    reason = reason_in(OTHER_BACKBONES, file.tensors)
    if reason is not None:
        raise UserError(f"{file.path}: another backbone: it has {reason}; expected torchvision's ResNet")
    if not any(key.startswith("backbone.") for key in file.tensors):
        raise UserError(f"{file.path}: holds no ResNet; found {next(iter(file.tensors))}, ...")
    name = infer_config(file).get("backbone")
    if name is None:
        found = describe_backbone(file.tensors)
        raise UserError(f"{file.path}: its backbone is {found}; expected one of {', '.join(ARCHITECTURES)}")
    backbone = build_model(ModelConfig(backbone=name)).backbone
    model = nn.ModuleDict({"backbone": backbone})
    loaded, tensors = set(start_from(model, file)), model.state_dict()
    for key in tensors:
        if key not in loaded and not key.endswith("num_batches_tracked"):
            raise UserError(f"{file.path}: has no {key}; expected a whole {name}")
    return name, {**tensors, **_image_classifier(file, backbone.out_channels)}


def _image_classifier(file: WeightFile, features: int) -> dict[str, Tensor]:
    """Return the last layer of a classifier under torchvision's names; nothing where the file has none that fits."""
    for beginning in IMAGE_CLASSIFIERS:
        weight, bias = (file.tensors.get(f"{beginning}{part}") for part in ("weight", "bias"))
        if weight is None or bias is None or weight.dim() != 2:
            continue
        if weight.shape[1] == features and bias.shape == weight.shape[:1]:
            return {f"fc.{k}": usable(file.path, f"fc.{k}", v) for k, v in (("weight", weight), ("bias", bias))}
    return {}
