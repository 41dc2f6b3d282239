"""A loss or a gradient that is no number, at a chosen step.

``python -m tests.faults.bad_step KIND STEP RANK FLAGS`` is the training program with a tiny network and such a step of
one process.
"""

import os
import sys

import torch

from deeplab_fast import train
from deeplab_fast.cli import run
from deeplab_fast.training.loss import CrossEntropy
from tests.faults.tiny import make_tiny

KINDS = ("nan", "inf", "gradient")


def spoil(kind, at, put=setattr):
    """Let batch ``at``, from 1 and of all that the loss is asked for from now on, have a bad loss or gradients."""
    whole, calls = CrossEntropy.share, 0

    def share(self, logits, labels, divisor):
        nonlocal calls
        calls += 1
        loss = whole(self, logits, labels, divisor)
        if calls != at:
            return loss
        if kind == "gradient":  # a value of 0, whose derivative is infinity times 0
            return loss + (logits * 0).sum().abs().sqrt()
        return loss * float(kind)

    put(CrossEntropy, "share", share)


if __name__ == "__main__":
    kind, step, rank = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
    torch.set_num_threads(1)
    make_tiny()
    if os.environ.get("RANK", "0") == rank:
        spoil(kind, step)
    run(train.main)
