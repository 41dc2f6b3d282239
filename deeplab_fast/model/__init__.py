"""DeepLabV3 and its parts: layers, ResNet backbones, ASPP, weights."""

from .deeplabv3 import DeepLabV3, build_model

__all__ = ["DeepLabV3", "build_model"]
