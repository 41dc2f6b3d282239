"""Use the operations on tensors of your own, without the network, its data or its training loop.

``python examples/use_the_ops.py``: on a GPU the fused kernels run, on a CPU the extension or plain torch.
"""

import torch

from deeplab_fast.ops import ConfusionCounter, LogitsView, norm_relu, upsample_argmax, upsample_ce

CLASSES, IGNORED = 3, 255


def normalise(features: torch.Tensor) -> torch.Tensor:
    """Return BatchNorm, a shortcut and ReLU in one pass: ``[N, C, H, W]``."""
    channels = features.shape[1]
    ones, zeros = features.new_ones(channels), features.new_zeros(channels)
    return norm_relu(features, ones, zeros, zeros.clone(), ones.clone(), residual=features)


def train_on(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean loss of logits ``[N, C, h, w]`` against labels ``[N, H, W]``, and leave their gradient."""
    loss = upsample_ce(logits, labels, ignore_label=IGNORED)  # logits of the labels' size are never made
    mean = loss.total / loss.weight
    mean.backward()
    return mean.item()


def miou(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean intersection over union of the largest logits, at the labels' size."""
    number, height, width = labels.shape
    whole = LogitsView(logits.detach(), height, torch.tensor([[height, width]] * number))
    classes = upsample_argmax([whole], [(height, width)] * number, align_corners=True)
    counter = ConfusionCounter(CLASSES, IGNORED, labels.device)
    for truth, found in zip(labels, classes, strict=True):
        counter.add(truth, found)
    counts = counter.total()
    return (counts.diag() / (counts.sum(0) + counts.sum(1) - counts.diag())).mean().item()


def main() -> None:
    """Fit logits at an eighth of the resolution to labels of three bands, and print how well they come to agree."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = (torch.arange(65, device=device) // 22).to(torch.uint8).expand(2, 65, 65).contiguous()
    labels[:, :4] = IGNORED
    logits = torch.zeros(2, CLASSES, 9, 9, device=device, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=40.0)
    for step in range(41):
        optimiser.zero_grad()
        loss = train_on(logits, labels)
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.3f}, mIoU {miou(logits, labels):.3f}")
        optimiser.step()
    print(f"normalised: {tuple(normalise(torch.randn(2, 8, 9, 9, device=device)).shape)}")


if __name__ == "__main__":
    main()
