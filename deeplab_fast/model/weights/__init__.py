"""Weights from files: read any of them, tell what network they are of, load all of it or start from it."""

from .infer import assumed_config, infer_config
from .load import load_exactly, load_pretrained, refuse_other_networks
from .named import find_weights
from .read import WeightFile, read_weights

__all__ = [
    "WeightFile",
    "assumed_config",
    "find_weights",
    "infer_config",
    "load_exactly",
    "load_pretrained",
    "read_weights",
    "refuse_other_networks",
]
