"""What the kernels move and allocate: counted from their launches, and access by access in the interpreter."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from deeplab_fast.ops import label_weight, upsample_ce, upsample_ce_per_pixel
from deeplab_fast.ops.triton.launch import record_launches
from tests.ops.kernels import DEVICE, needs_kernels

pytestmark = [pytest.mark.gpu, needs_kernels]

# (rows, channels) of the network's activations at batch 32, crop 513, output stride 16
LAYERS = {
    "stem": (32 * 257 * 257, 64),
    "layer1": (32 * 129 * 129, 256),
    "layer2": (32 * 65 * 65, 512),
    "layer3": (32 * 33 * 33, 1024),
    "layer4": (32 * 33 * 33, 2048),
    "layer4, inner": (32 * 33 * 33, 512),
    "ASPP": (32 * 33 * 33, 256),
}
# Bytes moved, of the least that a pass can move: what ops/README.md says. Beyond the maps it is the channels'
# constants, which each tile asks the L2 cache for; tiles of 16 rows were measured to be faster all the same.
MOST = {
    "moments_kernel": 1.004,
    "norm_relu_sums_kernel": 1.012,
    "norm_relu_kernel": 1.25,
    "norm_relu_backward_kernel": 1.25,
}
MOST_BY_TALL_TILES = 1.084  # of at least 64 rows


def norm_launches(rows, channels, dtype, residual, device="meta", running=False):
    """The launches of a training step's normalisation, forward and backward, by kernel."""
    from deeplab_fast.ops.norm.triton import batch_norm_stats, norm_relu

    x, extra, y, dy, dx, dz = (torch.ones(rows, channels, dtype=dtype, device=device) for _ in range(6))
    vectors = [torch.ones(channels, device=device) for _ in range(4)]
    mask = y if residual else None
    with record_launches() as made:
        batch_norm_stats.partial_moments(x)
        norm_relu.norm_relu(x, extra if residual else None, *vectors, 1e-5, True, y)
        sums = norm_relu.norm_relu_sums(dy, x, mask, *vectors, 1e-5, True)
        count = None if running else float(rows)
        norm_relu.norm_relu_backward(dy, x, mask, *vectors, 1e-5, True, sums, count, dx, dz if residual else None)
        if residual:  # which is normalised too, and the output has two readers
            norm_relu.norm_relu(x, extra, *vectors, 1e-5, True, y, tuple(vectors))
            norm_relu.norm_relu_sums(dy, x, y, *vectors, 1e-5, True, dx, dz, (extra, *vectors[:2]))
    return [one for one in made if one.kernel.__name__ != "add_parts_kernel"]


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("residual", [False, True])
def test_each_pass_moves_little_more_than_it_must(layer, dtype, residual):
    """Each input read once and each output written once, within ``MOST``."""
    from deeplab_fast.ops.norm.triton.bytes_moved import bytes_moved

    for made in norm_launches(*layer, dtype, residual):
        moved, least = bytes_moved(made)
        name = made.kernel.__name__
        print(f"{name}: {moved / 1e6:.1f} MB, {moved / least:.4f} of the least")
        most = MOST[name] if made.tile.rows < 64 else min(MOST[name], MOST_BY_TALL_TILES)
        assert moved <= most * least, name


@pytest.mark.skipif(DEVICE.type == "cuda", reason="counts the interpreter's accesses")
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_the_count_from_the_launch_is_what_the_kernels_access(monkeypatch, residual, running):
    from triton.runtime.interpreter import InterpreterBuilder

    from deeplab_fast.ops.norm.triton import batch_norm_stats, norm_relu
    from deeplab_fast.ops.norm.triton.bytes_moved import bytes_moved

    monkeypatch.setattr(batch_norm_stats, "MOMENTS_PROGRAMS", 6)  # programs that take several tiles
    monkeypatch.setattr(norm_relu, "SUMS_PROGRAMS", 6)
    counted = [0]

    def count(real, mask_at):
        def access(self, pointers, *rest):
            counted[0] += int(rest[mask_at].data.sum()) * (pointers.get_element_ty().primitive_bitwidth // 8)
            return real(self, pointers, *rest)

        return access

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", count(InterpreterBuilder.create_masked_load, 0))
    monkeypatch.setattr(InterpreterBuilder, "create_masked_store", count(InterpreterBuilder.create_masked_store, 1))
    for made in norm_launches(333, 140, torch.float16, residual, "cpu", running):
        counted[0] = 0
        made.run()
        assert counted[0] == bytes_moved(made).moved, made.kernel.__name__


class Allocations(TorchDispatchMode):
    """The largest tensor that anything inside makes, in bytes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("classes", [2, 21, 150])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_loss_makes_no_tensor_larger_than_its_inputs(classes, dtype):
    """At the recipe's size, forward and backward, every launch noted instead of run; nothing of full resolution."""
    logits = torch.zeros(32, classes, 33, 33, dtype=dtype, device=DEVICE, requires_grad=True)
    labels = torch.zeros(32, 513, 513, dtype=torch.uint8, device=DEVICE)
    limit = 1.01 * (logits.numel() * logits.element_size() + labels.numel())
    with record_launches() as made, Allocations() as seen:
        total, _, _ = upsample_ce(logits, labels, fused="on")
        total.backward()
        label_weight(labels, classes, fused="on")
    assert {one.kernel.__name__ for one in made} >= {
        *("upsample_ce_kernel", "gather_kernel", "scale_kernel", "label_weight_kernel")
    }
    largest = max(seen.largest, largest_argument(made))
    print(f"largest tensor {largest / 1e6:.2f} MB, limit {limit / 1e6:.2f} MB")
    assert largest <= limit
    assert largest > logits.numel()  # the workspace was seen
    with record_launches() as made, Allocations() as seen:
        upsample_ce_per_pixel(logits, labels, fused="on")
    losses = 4 * labels.numel()  # one float a pixel
    assert max(seen.largest, largest_argument(made)) <= max(limit, losses)


def largest_argument(made):
    """Bytes of the largest memory that a launch works on: what is allocated inside an op no dispatch mode sees."""
    tensors = [a for one in made for a in one.arguments.values() if isinstance(a, torch.Tensor)]
    return max(t.untyped_storage().nbytes() for t in tensors)
