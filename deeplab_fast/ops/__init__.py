"""Public operations. Each file holds one: its reference, which is the specification, and its fast paths.

Nothing here knows the model or the data set; see README.md in this folder for how an op is laid out.
"""

from .conv.aspp import aspp
from .conv.atrous_conv import atrous_conv2d
from .conv.atrous_conv_bn_relu import atrous_conv_bn, atrous_conv_bn_relu
from .conv.conv_bn import conv_bn
from .conv.folded_conv import Folds, can_fold_bn, folded_conv, keep_folds
from .dispatch import use_kernels
from .input.augment import apply_colour, crop_resample, resize_bilinear
from .input.decode import decode_image, decode_label, image_size
from .input.decode_reference import decode_mask
from .input.decoding import DEFAULT_DECODING, Decoding
from .input.exif import exif_orientation, is_transposed
from .input.normalise import normalise
from .input.pillow_formats import IMAGE_FORMATS, PILLOW_SUFFIXES, encode_png, pillow_format
from .input.sample_loader import SampleLoader, augment_ragged
from .layout import pixel_major
from .metrics.confusion import ConfusionCounter, confusion_matrix
from .norm.deferred import DeferredNorm, defer_norm, materialize
from .norm.norm_relu import norm_relu
from .norm.norm_relu_pool import norm_relu_pool
from .norm.params import NormConstants, NormParams
from .norm.sync_batch_norm import sync_batch_norm
from .upsampling.label_weight import label_weight
from .upsampling.labels import NO_LABEL
from .upsampling.upsample import upsample
from .upsampling.upsample_argmax import LogitsView, summed_probabilities, upsample_argmax
from .upsampling.upsample_ce import upsample_ce
from .upsampling.upsample_ce_per_pixel import upsample_ce_per_pixel

__all__ = [
    "DEFAULT_DECODING",
    "IMAGE_FORMATS",
    "NO_LABEL",
    "PILLOW_SUFFIXES",
    "ConfusionCounter",
    "Decoding",
    "DeferredNorm",
    "Folds",
    "LogitsView",
    "NormConstants",
    "NormParams",
    "SampleLoader",
    "apply_colour",
    "aspp",
    "atrous_conv2d",
    "atrous_conv_bn",
    "atrous_conv_bn_relu",
    "augment_ragged",
    "can_fold_bn",
    "confusion_matrix",
    "conv_bn",
    "crop_resample",
    "decode_image",
    "decode_label",
    "decode_mask",
    "defer_norm",
    "encode_png",
    "exif_orientation",
    "folded_conv",
    "image_size",
    "is_transposed",
    "keep_folds",
    "label_weight",
    "materialize",
    "norm_relu",
    "norm_relu_pool",
    "normalise",
    "pillow_format",
    "pixel_major",
    "resize_bilinear",
    "summed_probabilities",
    "sync_batch_norm",
    "upsample",
    "upsample_argmax",
    "upsample_ce",
    "upsample_ce_per_pixel",
    "use_kernels",
]
