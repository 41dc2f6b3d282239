"""Configuration as data: frozen dataclasses whose fields are the command line's flags.

Classes are combined by inheritance, so that every flag is written once and a subject is a heading in ``--help``.
"""

from .evaluation import EvalConfig, validate_evaluation
from .export import ExportConfig
from .flags import AUTO, flag, validate
from .segmenter import SegmenterConfig
from .shared import (
    MODELS,
    PRECISIONS,
    SCALES,
    ChannelsConfig,
    CheckpointConfig,
    DecodingConfig,
    DeviceConfig,
    ImageConfig,
    MachineConfig,
    ModelConfig,
    ProtocolConfig,
    RecordCacheConfig,
    validate_image,
    validate_protocol,
)
from .training import LossConfig, OptimiserConfig, RunConfig, TrainConfig, TrainDataConfig, validate_train

__all__ = [
    "AUTO",
    "MODELS",
    "PRECISIONS",
    "SCALES",
    "ChannelsConfig",
    "CheckpointConfig",
    "DecodingConfig",
    "DeviceConfig",
    "EvalConfig",
    "ExportConfig",
    "ImageConfig",
    "LossConfig",
    "MachineConfig",
    "ModelConfig",
    "OptimiserConfig",
    "ProtocolConfig",
    "RecordCacheConfig",
    "RunConfig",
    "SegmenterConfig",
    "TrainConfig",
    "TrainDataConfig",
    "flag",
    "validate",
    "validate_evaluation",
    "validate_image",
    "validate_protocol",
    "validate_train",
]
