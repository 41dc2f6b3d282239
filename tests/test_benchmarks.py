"""The benchmarks' own arithmetic: what is called slower, what is called alike, what is drawn."""

import json

import numpy as np
import pytest
import torch

from benchmarks import curves, implementations, regression, train_step
from benchmarks.chart import Bar, bar_chart
from deeplab_fast.errors import UserError


def results(ours, device="a CPU", batch=2):
    timings = {"ours": {"median_ms": ours}, "torchvision-eager": {"median_ms": 9.0}}
    return {
        "environment": {"device": device},
        "config": {"batch_size": batch, "rounds": 3},
        "precisions": {"bf16": {"implementations": timings}},
    }


def test_compare_lists_both_and_passes_within_the_limit(tmp_path):
    old = tmp_path / "old.json"
    old.write_text(json.dumps(results(5.0)))
    table = regression.compare(results(5.2), str(old))
    assert "| precisions bf16 implementations ours | 5.00 | 5.20 | 1.040 |" in table
    assert "torchvision-eager" in table


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (results(5.3), r"slower than .* by more than 5%: precisions bf16 implementations ours 1.06x"),
        (results(5.0, device="another"), "its environment.device is a CPU, this run's another"),
        (results(5.0, batch=4), "its config is .*'batch_size': 2.*'batch_size': 4"),
        ({"environment": {"device": "a CPU"}, "config": {"batch_size": 2}}, "nothing that was measured now"),
    ],
)
def test_compare_fails(new, message, tmp_path):
    old = tmp_path / "old.json"
    old.write_text(json.dumps(results(5.0)))
    with pytest.raises(UserError, match=message):
        regression.compare(new, str(old))


def test_compare_with_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="no results can be read from it"):
        regression.compare(results(5.0), str(tmp_path / "none.json"))


def test_curves():
    reference = np.linspace(3, 1, 100)
    assert curves.difference(reference, reference) == 0
    assert curves.difference(reference * 1.03, reference) == pytest.approx(0.03)
    alternating = reference + 0.5 * (-1.0) ** np.arange(100)  # noise, which smoothing takes away
    assert curves.difference(alternating, reference) < 1e-9
    with pytest.raises(UserError, match="99 and 100 steps"):
        curves.difference(reference[1:], reference)


def test_curves_of_runs(tmp_path, capsys):
    for name, factor in (("a", 1.0), ("b", 1.01), ("c", 1.1)):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"step": i, "loss": factor * (3 - i / 50), "lr": 0.1}) for i in range(60)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert curves.main([str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "picture.png")]) == 0
    assert "differ by 1.00% on average over 60 steps" in capsys.readouterr().out
    assert (tmp_path / "picture.png").stat().st_size > 1000
    assert curves.main([str(tmp_path / "c"), str(tmp_path / "a")]) == 1
    with pytest.raises(UserError, match="expected a run's folder"):
        curves.main([str(tmp_path / "none"), str(tmp_path / "a")])


def test_chart(tmp_path):
    bars = {"ours": Bar(1.0, 0.9, 1.2), "a peer": Bar(2.0, 1.9, 2.1)}
    bar_chart(tmp_path / "chart.png", "title", "ms", {"fp32": bars, "bf16": bars}, {"fp32": 0.5})
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_what_agrees():
    plain = {"loss": 1e-3, "gradient": 1e-2}
    assert implementations.disagreement({"loss": 1.9e-3, "gradient": 1.9e-2}, plain, "bf16") is None
    for what, error in (("loss", 2.1e-3), ("gradient", 2.1e-2), ("loss", float("nan"))):
        found = implementations.disagreement({"loss": 0.0, "gradient": 0.0, what: error}, plain, "bf16")
        assert found.startswith(f"error of the {what} is")
    exact = {"loss": 0.0, "gradient": 0.0}  # by chance: an error below rounding is none
    assert implementations.disagreement({"loss": 9e-4, "gradient": 9e-6}, exact, "bf16") is None
    assert "expected at most 1.0e-05" in implementations.disagreement({"loss": 2e-5, "gradient": 0.0}, exact, "fp32")
    rough = {"loss": 1e-3, "gradient": 0.7}
    assert "expected at most 9.0e-01" in implementations.disagreement({"loss": 0.0, "gradient": 1.0}, rough, "bf16")


def bench_of(wrong):
    """A bench of two implementations on a tiny network, one of which has no gradient."""
    config = train_step.TrainStepConfig(backbone="resnet50", crop_size=33, num_classes=4, rounds=4)
    bench = train_step.Bench(config, "fp32", torch.device("cpu"))
    for name in ("ours", "torchvision-eager"):
        bench.add(name)
    bench.facts[wrong]["errors"]["gradient"] = 1.0
    return bench


def test_a_peer_whose_gradient_is_wrong_is_not_timed():
    bench = bench_of("torchvision-eager")
    assert bench.timings().keys() == {"ours"}
    assert "error of the gradient is 1.0e+00" in bench.missing["torchvision-eager"]


def test_ours_with_a_wrong_gradient_is_an_error():
    with pytest.raises(UserError, match="ours: error of the gradient is"):
        bench_of("ours").timings()


def test_a_part_that_is_not_allowed():
    assert implementations.some_of(("a", "b"), "which", "b,a") == ["b", "a"]
    with pytest.raises(UserError, match="--which=a,c: expected some of a, b, commas between"):
        implementations.some_of(("a", "b"), "which", "a,c")
