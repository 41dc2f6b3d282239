"""Weights that are known by a name: where they are published, and of what. Data, no code.

Facts of torchvision 0.28, whose file names end in the first eight digits of their SHA-256.
"""

from dataclasses import dataclass

from deeplab_fast.storage.remote import RemoteFile


@dataclass(frozen=True)
class Pretrained:
    """Weights of a published network: their file, the ``--backbone`` that they are of, their origin and licence."""

    file: RemoteFile
    backbone: str
    origin: str
    licence: str = "BSD-3-Clause; trained on ImageNet, whose images are for non-commercial research"


_V1 = "torchvision's IMAGENET1K_V1"
_V2 = "torchvision's IMAGENET1K_V2"


def _torchvision(backbone: str, sha256: str, origin: str) -> Pretrained:
    name = f"{backbone}-{sha256}.pth"
    return Pretrained(RemoteFile(name, (f"https://download.pytorch.org/models/{name}",), sha256), backbone, origin)


PRETRAINED = {
    "resnet18-imagenet": _torchvision("resnet18", "f37072fd", _V1),
    "resnet34-imagenet": _torchvision("resnet34", "b627a593", _V1),
    "resnet50-imagenet": _torchvision("resnet50", "0676ba61", _V1),
    "resnet50-imagenet-v2": _torchvision("resnet50", "11ad3fa6", _V2),
    "resnet101-imagenet": _torchvision("resnet101", "63fe2227", _V1),
    "resnet101-imagenet-v2": _torchvision("resnet101", "cd907fc2", _V2),
}
