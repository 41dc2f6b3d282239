"""Public operations. Each file holds one: its reference, which is the specification, and its fast paths.

Nothing here knows the model or the data set; see README.md in this folder for how an op is laid out.
"""

from .atrous_conv import atrous_conv2d
from .augment import apply_colour, crop_resample, resize_bilinear
from .confusion import confusion_matrix
from .decode import decode_image, decode_label, image_size
from .decode_gpu import decode_jpegs
from .normalise import normalise
from .sample_loader import SampleLoader, augment_ragged
from .sync_batch_norm import sync_batch_norm
from .upsample import upsample, upsample_softmax
from .upsample_ce import upsample_ce, upsample_ce_per_pixel
from .upsample_confusion import upsample_confusion

__all__ = [
    "SampleLoader",
    "apply_colour",
    "atrous_conv2d",
    "augment_ragged",
    "confusion_matrix",
    "crop_resample",
    "decode_image",
    "decode_jpegs",
    "decode_label",
    "image_size",
    "normalise",
    "resize_bilinear",
    "sync_batch_norm",
    "upsample",
    "upsample_ce",
    "upsample_ce_per_pixel",
    "upsample_confusion",
    "upsample_softmax",
]
