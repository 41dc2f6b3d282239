"""Valid and invalid labels, for every op that reads them."""

import torch
from torch import Tensor

NO_LABEL = torch.iinfo(torch.int32).min  # "the largest bad label" where there is none
MOST_CLASSES = 256  # what a byte names
LABEL_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def targets(labels: Tensor, num_classes: int, ignore_label: int) -> tuple[Tensor, Tensor]:
    """Return which pixels count, and int64 class indexes, 0 where they do not: both of the shape of ``labels``."""
    wide = labels.long()  # first: 256 classes do not fit a comparison in uint8
    valid = (wide != ignore_label) & (wide >= 0) & (wide < num_classes)
    return valid, torch.where(valid, wide, 0)


def bad_labels(labels: Tensor, valid: Tensor, ignore_label: int) -> Tensor:
    """Count the labels that are neither a class nor the ignore label, and find the largest of them: int32 ``[2]``."""
    wide = labels.long().clamp(min=NO_LABEL, max=torch.iinfo(torch.int32).max)
    bad = ~valid & (wide != ignore_label)
    return torch.stack([bad.sum(), torch.where(bad, wide, NO_LABEL).amax()]).to(torch.int32)
