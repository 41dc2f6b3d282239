"""Tensors of a batch normalisation that always travel together."""

from typing import NamedTuple

from torch import Tensor


class NormParams(NamedTuple):
    """A BatchNorm's tensors, each ``[C]``; the running statistics fp32."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor


class NormConstants(NamedTuple):
    """Constants of each channel: statistics fp32 ``[C]``, weight and bias ``[C]``, and the variance's addend."""

    mean: Tensor
    variance: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
