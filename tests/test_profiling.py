"""--profile: every name in its category, the table's sums, and files beside a run."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from deeplab_fast.training.profiling import (
    COPIES,
    GRADIENTS,
    IDLE,
    OTHER,
    PRODUCTS,
    TABLE,
    TRACE,
    ProfiledStep,
    as_table,
    category_of,
)
from deeplab_fast.training.roofline import (
    FORWARD,
    INPUT_GRADIENT,
    LOSS,
    NORMALISE,
    OPTIMISER,
    WEIGHT_GRADIENT,
    Roof,
    measure_roof,
)
from deeplab_fast.training.step import train_step
from tests.test_step import batch_on, state_of


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("aten::mkldnn_convolution", FORWARD),
        ("aten::convolution_backward", GRADIENTS),
        ("aten::mm", PRODUCTS),
        ("nvjet_sm90_tst_128x288_64x4_2x1_v_bz_coopA_TNT", PRODUCTS),
        ("aten::native_batch_norm_backward", NORMALISE),
        ("aten::threshold_backward", NORMALISE),
        ("aten::_fused_sgd_", OPTIMISER),
        ("aten::copy_", COPIES),
        ("deeplab_fast::upsample_ce", LOSS),
        ("aten::add", OTHER),
        ("conv_kernel", FORWARD),
        ("conv_weight_kernel", WEIGHT_GRADIENT),
        ("cutlass::device_kernel<BatchNormNode<(deeplab_fast::gemm::Op)0, cutlass::bfloat16_t>>", FORWARD),
        ("cutlass::device_kernel<BatchNormNode<(deeplab_fast::gemm::Op)2, cutlass::half_t>>", INPUT_GRADIENT),
        ("norm_relu_backward_kernel", NORMALISE),
        ("upsample_ce_kernel", LOSS),
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", FORWARD),
        ("sm90_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32", INPUT_GRADIENT),
        ("sm80_xmma_wgrad_implicit_gemm_indexed_bf16bf16", WEIGHT_GRADIENT),
        ("void multi_tensor_apply_kernel<FusedSgdMathFunctor>", OPTIMISER),
        ("Memcpy DtoD (Device -> Device)", COPIES),
    ],
)
def test_categories(name, category):
    assert category_of(name) == category


def test_little_of_a_measured_step_is_of_no_category():
    """By the kernels' names and times of a step on an H200."""
    path = Path(__file__).parent.parent / "benchmarks/results/2026-11-28-nvidia-h200/profile.json"
    found = json.loads(path.read_text())["rows"]
    assert len(found) > 50
    spent: Counter[str] = Counter()
    for ms, _, name in found:
        spent[category_of(name)] += ms
    assert spent[OTHER] < 0.04 * spent.total()
    assert spent[PRODUCTS] > 8  # cuBLAS


def test_the_table_adds_up():
    floor = {FORWARD: 0.001, INPUT_GRADIENT: 0.002, WEIGHT_GRADIENT: 0.003, LOSS: 0.0}
    table = as_table({FORWARD: 0.004, GRADIENTS: 0.005}, 0.010, floor, Roof(1e12, 1e11))
    cells = {row.split("|")[1].strip(): [c.strip() for c in row.split("|")[2:5]] for row in table.splitlines()[2:-2]}
    assert cells[GRADIENTS] == ["5.00", "50.0%", "5.00"]
    assert cells[FORWARD] == ["4.00", "40.0%", "1.00"]
    assert cells[IDLE] == ["1.00", "10.0%", ""]
    assert cells["all"] == ["10.00", "100.0%", "6.00"]
    assert "1 TFLOP/s and 100 GB/s" in table


@pytest.mark.long
def test_a_run_s_profile(tmp_path):
    """Nothing before the sixth step; the step computes what it did."""
    said, losses = [], []
    state, other = (state_of(backbone="resnet18", precision="fp32", crop_size=65, max_steps=20) for _ in range(2))
    step = ProfiledStep(lambda batches: train_step(state, batches), state, tmp_path, said.append)
    batch = batch_on(torch.device("cpu"))
    torch.manual_seed(0)
    for i in range(10):
        assert (tmp_path / TABLE).exists() == (i >= 8)
        losses.append(step([batch]).item())
    torch.manual_seed(0)
    assert losses == [train_step(other, [batch]).item() for _ in range(10)]
    assert said == [f"profile: {tmp_path / TABLE}, and {TRACE} for chrome://tracing"]
    assert json.loads((tmp_path / TRACE).read_text())["traceEvents"]
    table = (tmp_path / TABLE).read_text()
    for category in (FORWARD, GRADIENTS, NORMALISE, OPTIMISER, LOSS, IDLE, "all"):
        assert f"| {category} |" in table


def test_the_roof_is_of_this_device():
    roof = measure_roof(torch.device("cpu"), torch.float32, rounds=1)
    assert 1e9 < roof.flops < 1e15
    assert 1e8 < roof.bandwidth < 1e13
