"""The flags of whatever segments images: the command line and :class:`deeplab_fast.Segmenter`."""

from dataclasses import dataclass

from .flags import flag
from .shared import CheckpointConfig, DeviceConfig, ImageConfig, ModelConfig, ProtocolConfig


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(ProtocolConfig, DeviceConfig, ImageConfig, ModelConfig, CheckpointConfig):
    """Batches"""

    batch_size: int = flag(1, "Images of any sizes, or windows of one, that the network sees together.", minimum=1)
