"""Upsample, argmax and count in one pass: a confusion matrix straight from low-resolution logits."""

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.errors import UserError

from . import extension
from .dispatch import use_kernels
from .metrics.confusion import NONE_WRONG, confusion_matrix, confusion_matrix_reference, refuse, type_name
from .triton import INTERPRETED
from .upsampling.upsample_argmax import _upsample_argmax, supports

_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def upsample_confusion_reference(logits: Tensor, labels: Tensor, align_corners: bool, ignore_label: int) -> Tensor:
    """:func:`upsample_confusion` with full-resolution logits in between."""
    full = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=align_corners)
    return confusion_matrix_reference(labels, full.argmax(1), logits.shape[1], ignore_label)


def upsample_confusion(
    logits: Tensor, labels: Tensor, align_corners: bool, ignore_label: int, fused: str = "auto"
) -> Tensor:
    """Confusion matrix of bilinearly upsampled logits' largest class; no full-resolution tensor is made.

    Args:
        logits: fp32, fp16 or bf16 ``[N, C, h, w]``, any strides; fastest with at most 256 classes.
        labels: uint8 ``[N, H, W]``; ``ignore_label`` does not count.
        align_corners: as in :func:`torch.nn.functional.interpolate`.
        fused: ``off`` is the reference. Otherwise the extension's kernel, on a GPU without it Triton's, which
            writes one byte a pixel between the argmax and the counting.

    Returns:
        int64 ``[C, C]``, rows truth, on the logits' device. Sums are in fp32; a tie goes to the lower
        class. Waits for the device.

    Raises:
        UserError: a label is neither a class nor the ignore label, or shapes or types do not fit.
    """
    fits = labels.dtype == torch.uint8 and labels.dim() == 3 and logits.dim() == 4 and len(labels) == len(logits)
    if not fits or logits.dtype not in _TYPES or labels.device != logits.device or not labels.numel():
        raise UserError(
            f"logits {logits.dtype} {tuple(logits.shape)} on {logits.device}, labels {labels.dtype}"
            f" {tuple(labels.shape)} on {labels.device};"
            " expected fp32, fp16 or bf16 [N, C, h, w] and uint8 [N, H, W] on one device"
        )
    logits, labels = logits.detach(), labels.contiguous()
    native = (extension.cuda_on(logits.device) if logits.is_cuda else extension.load())[0]
    unsupported = supports(logits)
    no_extension = INTERPRETED or native is None or unsupported is not None
    if no_extension and use_kernels("upsample_confusion", fused, logits.device, unsupported):
        return confusion_matrix(labels, _classes(logits, labels, align_corners), logits.shape[1], ignore_label)
    if fused == "off" or native is None or unsupported:
        return upsample_confusion_reference(logits, labels, align_corners, ignore_label)
    n, classes, h, w = logits.shape
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=logits.device)
    if not logits.is_cuda:
        pixels_last = logits.float().permute(0, 2, 3, 1).contiguous()
        wrong = native.count_upsampled(
            pixels_last.numpy(), labels.numpy(), align_corners, ignore_label, torch.get_num_threads(), counts.numpy()
        )
        if wrong is not None:
            refuse(wrong[2], 0, classes, ignore_label)
        return counts
    first = torch.full((), NONE_WRONG, dtype=torch.int64, device=logits.device)
    with torch.cuda.device(logits.device):
        native.count_upsampled_cuda(
            logits=logits.data_ptr(),
            type=type_name(logits),
            strides=logits.permute(0, 2, 3, 1).stride(),
            shape=(n, h, w, classes),
            labels=labels.data_ptr(),
            size=tuple(labels.shape[1:]),
            align_corners=align_corners,
            ignore_label=ignore_label,
            counts=counts.data_ptr(),
            wrong=first.data_ptr(),
            stream=torch.cuda.current_stream(logits.device).cuda_stream,
        )
    if int(first) != NONE_WRONG:
        refuse(int(labels.view(-1)[int(first)]), 0, classes, ignore_label)
    return counts


def _classes(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """The class of each pixel from Triton's kernel: uint8 ``[N, H, W]``."""
    n, height, width = labels.shape
    extents = torch.tensor([[[height, width]] * n], dtype=torch.int32)
    flat = _upsample_argmax([logits], [height, width], extents, [height, width] * n, align_corners, True)
    return flat.view(labels.shape)
