"""Weights from files: read any of them, tell what network they are of, load all of it or start from it."""

from .backbone import backbone_of, is_backbone_alone
from .families import MINDSPORE
from .infer import assumed_config, describe_network, infer_config
from .load import describe_match, load_exactly, load_pretrained, refuse_other_networks, start_from
from .mindspore import read_mindspore, write_mindspore
from .model_folder import read_file_or_folder, write_folder
from .named import find_weights
from .read import WeightFile, read_weights
from .save import save_as
from .to_mindspore import as_mindspore

__all__ = [
    "MINDSPORE",
    "WeightFile",
    "as_mindspore",
    "assumed_config",
    "backbone_of",
    "describe_match",
    "describe_network",
    "find_weights",
    "infer_config",
    "is_backbone_alone",
    "load_exactly",
    "load_pretrained",
    "read_file_or_folder",
    "read_mindspore",
    "read_weights",
    "refuse_other_networks",
    "save_as",
    "start_from",
    "write_folder",
    "write_mindspore",
]
