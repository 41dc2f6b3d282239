"""Benchmarks: what is built, what is checked, what is shown."""

import contextlib
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import nn

from benchmarks import readme, timing, train_step
from benchmarks.cases import implementations
from benchmarks.peers import Torchvision
from deeplab_fast.errors import UserError
from deeplab_fast.model import DeepLabV3, resnet

REPO = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
SMALL = train_step.TrainStepConfig(backbone="resnet50", crop_size=33, num_classes=4, rounds=4)


class Built(NamedTuple):
    """What an implementation is. Ours is recorded as a graph where ``--speed`` says so and a GPU is there."""

    network: type[nn.Module]
    compiled: str | None = None
    recomputes: bool = False
    is_graphed: bool = False
    speed: str | None = None


BUILT = {
    "ours": Built(DeepLabV3, speed="auto"),
    "ours-compile": Built(DeepLabV3, compiled="default", speed="compile"),
    "ours-recompute": Built(DeepLabV3, recomputes=True, speed="auto"),
    "torchvision-eager": Built(Torchvision),
    "torchvision-eager-graph": Built(Torchvision, is_graphed=True),
    "torchvision-compile": Built(Torchvision, compiled="default"),
    "torchvision-compile-graph": Built(Torchvision, compiled="default", is_graphed=True),
    "torchvision-max-autotune": Built(Torchvision, compiled="max-autotune"),
}


class FakeGraph:
    """Stands in for a CUDA graph: recording computes nothing, replaying computes what was recorded."""

    def __init__(self, monkeypatch):
        self.is_recording, self.recordings, self.replays = False, 0, 0
        self.work, self.value = None, torch.zeros(())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.record)

    @contextlib.contextmanager
    def record(self, graph):
        self.is_recording, self.recordings = True, self.recordings + 1
        yield
        self.is_recording = False

    def wrap(self, work):
        """``work`` as it is seen by whoever captures it."""

        def seen():
            if not self.is_recording:
                return work()
            self.work = work
            return self.value

        return seen

    def replay(self):
        self.replays += 1
        self.value.copy_(self.work())


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """One block a stage, in ours and in torchvision's."""
    from benchmarks.peers import import_torchvision

    theirs = import_torchvision().models.resnet

    def one_block_a_stage(weights, replace_stride_with_dilation):
        return theirs.ResNet(theirs.Bottleneck, [1] * 4, replace_stride_with_dilation=replace_stride_with_dilation)

    monkeypatch.setattr(theirs, "resnet50", one_block_a_stage)
    monkeypatch.setitem(resnet.ARCHITECTURES, "resnet50", resnet.Architecture(resnet.Bottleneck, (1,) * 4))


def build_graphed(name, monkeypatch):
    """A graphed peer on a CPU, by a stand-in: the device is taken for a GPU where the graph asks for it alone."""
    fake = FakeGraph(monkeypatch)
    real = timing.GraphedCallable
    monkeypatch.setattr(
        implementations, "GraphedCallable", lambda work, device: real(fake.wrap(work), torch.device("cuda"))
    )
    monkeypatch.setattr(timing, "run_beside", lambda side, work: work())
    monkeypatch.setattr(torch.cuda, "Stream", object)
    return build(name), fake


def build(name, precision="fp32"):
    weights = implementations.first_weights(SMALL)
    return implementations.build(name, weights, SMALL, precision, CPU, implementations.Data.random(SMALL, CPU))


def what_is_built(name, monkeypatch):
    modes, configurations = [], []
    choose = implementations.choose_step
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", lambda model, mode=None, **_: modes.append(mode or "default") or model)
        patch.setattr(implementations, "choose_step", lambda s: configurations.append(s.config) or choose(s))
        try:
            built = build(name)
        except UserError as error:  # on a CPU
            assert str(error) == "a CUDA graph needs a GPU"  # noqa: PT017
            modes.clear()
            built, _ = build_graphed(name, patch)
    config = configurations[0] if configurations else None
    return Built(
        type(built.network),
        modes[0] if modes else None,
        config is not None and config.recompute_activations,
        getattr(built, "graphed", None) is not None,
        config and config.speed,
    )


def test_e1_what_is_built_is_what_the_name_says(monkeypatch):
    assert {name: what_is_built(name, monkeypatch) for name in BUILT} == BUILT
    assert set(BUILT) == set(implementations.NAMES)


def test_e1_a_graphed_peer_records_once_and_steps_as_the_eager_one_does(monkeypatch):
    eager = build("torchvision-eager")
    graphed, fake = build_graphed("torchvision-eager-graph", monkeypatch)
    expected = [eager.step().item() for _ in range(5)]
    assert [graphed.step().item() for _ in range(5)] == expected
    assert len(set(expected)) == 5  # each step changed the weights
    assert (fake.recordings, fake.replays) == (1, 2)
    for a, b in zip(eager.network.parameters(), graphed.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_e1_the_graphed_peers_are_among_the_defaults():
    for device in ("cpu", "cuda"):
        assert {"torchvision-eager-graph", "torchvision-compile-graph"} <= set(
            train_step.default_names(torch.device(device))
        )


def files_that_gpu_sh_runs(tmp_path):
    """What ``gpu.sh check`` hands to pytest where there is a GPU, by a Python that only writes down its arguments."""
    program = tmp_path / "python"
    program.write_text(
        f"""#!/bin/bash
        case "$*" in
          *get_device_name*) echo "NVIDIA Something" ;;
          *report_checks*) cat >/dev/null ;;
          *) echo "$@" >>{tmp_path}/calls ;;
        esac
        """
    )
    program.chmod(0o755)
    command = ["bash", "benchmarks/gpu.sh", "check", f"--out={tmp_path}/out"]
    subprocess.run(command, cwd=REPO, env=os.environ | {"PYTHON": str(program)}, check=True, capture_output=True)
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    return next({word for word in call if word.startswith("tests/")} for call in calls if "pytest" in call)


def test_e2_gpu_sh_runs_every_test_of_an_op_and_of_whoever_uses_the_kernels(tmp_path):
    ops = {str(path.relative_to(REPO)) for path in (REPO / "tests" / "ops").glob("test_*.py")}
    users = {
        str(path.relative_to(REPO))
        for path in (REPO / "tests").rglob("test_*.py")
        if re.search(r"^from tests\.ops\.kernels import", path.read_text(), re.MULTILINE)
    }
    assert {"tests/ops/test_dual_norm_add_relu.py", "tests/ops/test_sync_batch_norm.py"} <= ops
    assert {"tests/model/test_torchvision.py", "tests/integration/test_fused_training.py"} <= users
    assert sorted((ops | users) - files_that_gpu_sh_runs(tmp_path)) == []


def test_e2_each_of_its_files_carries_the_marker_for_all_its_tests(tmp_path):
    for name in files_that_gpu_sh_runs(tmp_path):
        assert re.search(r"^pytestmark = \[?\s*pytest\.mark\.gpu\b", (REPO / name).read_text(), re.MULTILINE), name


def write_result(folder, date, checks, stem="train_step"):
    folder.mkdir(parents=True)
    result = {"environment": {"device": "A GPU", "date": date}, "checks": checks}
    (folder / f"{stem}.json").write_text(json.dumps(result))
    (folder / f"{stem}.md").write_text(f"table of {date}\n")
    (folder / "NOTES.md").write_text("notes\n")


def test_e4_a_table_comes_from_a_result_whose_check_could_fail_and_passed(tmp_path, monkeypatch):
    good = {"what": "gradient", "found": 0.1, "limit": 0.3, "could_fail": True}
    write_result(tmp_path / "a", "2026-01-01", [good])
    write_result(tmp_path / "b", "2026-01-02", [good, good | {"limit": 4.2, "could_fail": False}])
    write_result(tmp_path / "c", "2026-01-03", [good | {"found": 0.4}])
    write_result(tmp_path / "d", "2026-01-04", [])
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    text = readme.section()
    assert "table of 2026-01-01" in text
    assert not re.search("table of 2026-01-0[234]", text)
    assert "training step of 2026-01-02: its check of the gradient could not fail ([notes](b/NOTES.md))" in text
    assert "training step of 2026-01-03: the error of the gradient is 4.0e-01; expected at most 3.0e-01" in text
    assert "training step of 2026-01-04: it keeps no check of agreement" in text


def test_e4_the_benchmarks_page_says_which_of_the_h200s_figures_it_does_not_show():
    text = (REPO / "docs/benchmarks.md").read_text()
    assert re.search(r"Not shown: .*training step of 2026-11-26: its check of the gradient could not fail", text)
    assert "benchmarks/results/2026-11-26-nvidia-h200/NOTES.md" in text
    assert "635.64" not in text  # images a second of that result


def test_e4_one_gradient_that_is_off_by_a_percent_closes_the_gate(monkeypatch):
    """In bf16 it would drown in roundings; so it is held in fp32 before anything is timed."""
    wrong, real = "backbone.layer3.0.bn2.bias", train_step.build

    def off(name, *given):
        built = real(name, *given)
        if name == "ours":
            parameter = dict(built.network.named_parameters())[wrong]
            parameter.register_hook(lambda gradient: 1.01 * gradient)
        return built

    monkeypatch.setattr(train_step, "build", off)
    config = replace(SMALL, implementations="ours", precision="bf16")
    with pytest.raises(UserError, match=rf"^ours, fp32: error of the gradient of {wrong}, the worst of \d+ parameters"):
        train_step.measure(config, CPU)


def test_e4_a_result_keeps_each_error_beside_its_limit_and_the_commit(monkeypatch):
    monkeypatch.setattr(train_step.roofline, "measure_roof", lambda *_: train_step.roofline.H200)  # which takes seconds
    result = train_step.measure(replace(SMALL, precision="bf16", implementations="ours"), CPU)
    (gate,) = result["checks"]
    assert gate["implementation"] == "ours"
    assert 0 < gate["found"] <= gate["limit"] == 1e-3
    checks = result["precisions"]["bf16"]["implementations"]["ours"]["checks"]
    assert [check["what"] for check in checks] == ["loss", "gradient"]
    assert all(check["could_fail"] and check["found"] <= check["limit"] < 1 for check in checks)
    assert re.fullmatch("[0-9a-f]{12}|not recorded", result["environment"]["commit"])


def test_e5_the_kernels_move_what_the_readme_says():
    """Within what it says, and up to it: a figure of half the size would be too small."""
    from tests.ops import test_bytes_moved
    from tests.ops.kernels import MISSING

    if MISSING:
        pytest.skip(f"no kernels: {MISSING}")
    from deeplab_fast.ops.norm.triton.bytes_moved import bytes_moved

    text = (REPO / "deeplab_fast/ops/norm/README.md").read_text().split("## What each pass costs")[1]
    said = [float(figure) / 100 for figure in re.findall(r"([\d.]+) %", text)]
    passes = ["moments_kernel", "norm_relu_sums_kernel", "norm_relu_kernel"]  # in the order of the sentence
    more = dict.fromkeys([*passes, "norm_relu_backward_kernel"], 0.0)
    for layer in test_bytes_moved.LAYERS.values():
        for residual in (False, True):
            for made in test_bytes_moved.norm_launches(*layer, torch.bfloat16, residual):
                moved, least = bytes_moved(made)
                more[made.kernel.__name__] = max(more[made.kernel.__name__], moved / least - 1)
    more["norm_relu_kernel"] = max(more["norm_relu_kernel"], more.pop("norm_relu_backward_kernel"))
    assert len(said) == len(passes)
    for name, figure in zip(passes, said, strict=True):
        assert more[name] <= figure <= 1.1 * more[name] + 0.001, name
