"""Weights from files: read any of them, tell what network they are of, load all of it or start from it."""

from .load import WeightFile, infer_config, load_exactly, load_pretrained, read_weights

__all__ = ["WeightFile", "infer_config", "load_exactly", "load_pretrained", "read_weights"]
