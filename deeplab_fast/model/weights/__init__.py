"""Weights from files: read any of them, tell what network they are of, load all of it or start from it."""

from .families import MINDSPORE
from .infer import assumed_config, infer_config
from .load import load_exactly, load_pretrained, refuse_other_networks
from .mindspore import read_mindspore, write_mindspore
from .named import find_weights
from .read import WeightFile, read_weights
from .to_mindspore import as_mindspore

__all__ = [
    "MINDSPORE",
    "WeightFile",
    "as_mindspore",
    "assumed_config",
    "find_weights",
    "infer_config",
    "load_exactly",
    "load_pretrained",
    "read_mindspore",
    "read_weights",
    "refuse_other_networks",
    "write_mindspore",
]
