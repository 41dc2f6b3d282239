"""Evaluation protocols, one a file: the recipe's, other projects', and images at their own size."""

from ...config import EvalConfig
from .base import EvaluationProtocol, Inputs, Machine
from .mmseg import SCALES as MMSEG_SCALES
from .mmseg import MMSegmentation
from .recipe import Recipe, recipe_of
from .slide import Slide
from .torchvision import Torchvision
from .whole import Whole

__all__ = ["EvaluationProtocol", "Inputs", "Machine", "Recipe", "protocol_of", "recipe_of"]


def protocol_of(config: EvalConfig) -> EvaluationProtocol:
    """Make the protocol that ``--protocol`` names from its flags."""
    if config.protocol == "recipe":
        return Recipe.of(config)
    inputs = Inputs.of(config, config.precision)
    if config.protocol == "torchvision":
        return Torchvision(inputs, base_size=config.base_size)
    if config.protocol == "mmseg":
        scales = MMSEG_SCALES if config.scales_type else config.scales
        return MMSegmentation(inputs, scales, config.flip, within=config.test_scale)
    if config.protocol == "whole":
        return Whole(inputs, config.scales, config.flip)
    return Slide(inputs, config.scales, config.flip, crop=config.crop_size, stride=config.window_stride)
