"""The benchmarks' own arithmetic: what is called slower, what is called alike, what is drawn."""

import contextlib
import copy
import json
import re
import subprocess

import numpy as np
import pytest
import torch

from benchmarks import agreement, curves, evaluation, registry, regression, report, timing, train_step
from benchmarks import run as command
from benchmarks.cases import implementations
from benchmarks.chart import Bar, bar_chart
from deeplab_fast.errors import UserError
from deeplab_fast.runtime import environment


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


def test_curves_of_several_seeds(tmp_path, capsys):
    """Each seed's runs differ by 10 %, their means do not."""
    for name, factor, steps in (("a-1", 1, 60), ("a-2", 1, 60), ("b-1", 1.1, 60), ("b-2", 0.9, 60), ("c", 1, 50)):
        (tmp_path / name).mkdir()
        records = [{"step": i + 1, "loss": factor * (3 - i / 50), "lr": 0.1} for i in range(steps)]
        records += [{"step": step, "miou": factor * step / 100, "pixel_accuracy": 0.5} for step in (30, 60)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    a, b = (",".join(str(tmp_path / f"{name}-{seed}") for seed in (1, 2)) for name in "ab")
    assert curves.main([b, a, str(tmp_path / "picture.png")]) == 0
    said = capsys.readouterr().out
    assert "smoothed losses, the means of 2 seeds, differ by 0.00% on average over 60 steps" in said
    assert "b: mIoU 0.6000 (0.5400 to 0.6600)\na: mIoU 0.6000 (0.6000 to 0.6000)" in said
    assert (tmp_path / "picture.png").stat().st_size > 1000
    with pytest.raises(UserError, match="2 and 1 runs; expected the same seeds on either side"):
        curves.main([b, str(tmp_path / "a-1")])
    with pytest.raises(UserError, match="expected as many steps and evaluations in each"):
        curves.main([f"{tmp_path}/a-1,{tmp_path}/c", a])


def test_chart(tmp_path):
    bars = {"ours": Bar(1.0, 0.9, 1.2), "a peer": Bar(2.0, 1.9, 2.1)}
    bar_chart(tmp_path / "chart.png", "title", "ms", {"fp32": bars, "bf16": bars}, {"fp32": 0.5})
    assert (tmp_path / "chart.png").stat().st_size > 1000


def errors_of(loss=0.0, gradient=0.0, **parameters):
    return agreement.Errors(loss, gradient, parameters)


def what_fails(errors, plain, precision="bf16"):
    """The first check that fails, in words; None where none does."""
    return next((str(c) for c in agreement.checks_of(errors, plain, precision) if c.failed), None)


def test_what_agrees():
    plain = errors_of(1e-3, 1e-2)
    assert what_fails(errors_of(1.9e-3, 1.9e-2), plain) is None
    for what, error in (("loss", 2.1e-3), ("gradient", 2.1e-2), ("loss", float("nan"))):
        assert what_fails(errors_of(**{what: error}), plain).startswith(f"error of the {what} is")
    exact = errors_of()  # by chance: an error below rounding is none
    assert what_fails(errors_of(9e-4, 9e-6), exact) is None
    assert "expected at most 1.0e-05" in what_fails(errors_of(2e-5), exact, "fp32")
    assert "expected at most 9.0e-01" in what_fails(errors_of(0.0, 1.0), errors_of(1e-3, 0.7))
    assert all(check.could_fail for check in agreement.checks_of(exact, errors_of(1e-3, 5.0), "bf16"))


def test_each_parameter_is_held_to_the_limit():
    rounded = errors_of(a=3e-5, b=2e-5)
    assert not agreement.parameter_check([rounded]).failed
    # a value that tips over ReLU's edge in one batch is no error; what is off in all of them is
    assert not agreement.parameter_check([rounded, errors_of(a=5e-3, b=2e-5), rounded]).failed
    for wrong in (1e-2, float("nan")):
        check = agreement.parameter_check([errors_of(a=3e-5, b=wrong)] * 3)
        assert check.failed
        assert check.what == "gradient of b, the worst of 2 parameters"


def test_a_parameter_without_a_gradient_is_all_wrong():
    truth = agreement.Truth(1.0, {"a": torch.ones(3), "b": torch.ones(2)})
    errors = truth.errors(1.0, {"a": torch.ones(3)})
    assert errors.parameters == {"a": 0.0, "b": 1.0}
    assert errors.worst() == ("b", 1.0)
    assert errors.gradient == pytest.approx((2 / 5) ** 0.5)


def test_why_a_result_is_not_shown():
    good = {"what": "loss", "found": 1e-4, "limit": 1e-3, "could_fail": True}
    reasons = {
        "it keeps no check of agreement": {"environment": {}},
        "could not fail": {"a": [{"checks": [good, good | {"could_fail": False}]}]},
        "the error of the loss is 1.0e-02; expected at most 1.0e-03": {"checks": [good | {"found": 1e-2}]},
    }
    for reason, result in reasons.items():
        assert reason in agreement.reason_against(result)
    assert "nan" in agreement.reason_against({"checks": [good | {"found": float("nan")}]})
    assert agreement.reason_against({"checks": [good], "deeper": {"checks": [good]}}) is None


@pytest.fixture(scope="module")
def right():
    """A bench of two implementations on a tiny network."""
    config = train_step.TrainStepConfig(backbone="resnet50", crop_size=33, num_classes=4, rounds=4)
    bench = train_step.Bench(config, "fp32", torch.device("cpu"))
    for name in ("ours", "torchvision-eager"):
        bench.add(name)
    return bench


def without_gradient(right, wrong):
    """The bench with one of its implementations' gradients wrong."""
    bench = copy.copy(right)
    bench.built, bench.facts, bench.missing = list(right.built), copy.deepcopy(right.facts), {}
    bench.errors = right.errors | {wrong: right.errors[wrong]._replace(gradient=1.0)}
    return bench


@pytest.mark.long
def test_a_peer_whose_gradient_is_wrong_is_not_timed(right):
    bench = without_gradient(right, "torchvision-eager")
    assert bench.timings().keys() == {"ours"}
    assert "error of the gradient is 1.0e+00" in bench.missing["torchvision-eager"]


@pytest.mark.long
def test_ours_with_a_wrong_gradient_is_an_error(right):
    with pytest.raises(UserError, match="ours: error of the gradient is"):
        without_gradient(right, "ours").timings()


def test_a_part_that_is_not_allowed():
    assert implementations.some_of(("a", "b"), "which", "b,a") == ["b", "a"]
    with pytest.raises(UserError, match="--which=a,c: expected some of a, b, commas between"):
        implementations.some_of(("a", "b"), "which", "a,c")


def test_a_result_says_which_commit_it_is_of(tmp_path):
    def git(*command):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)

    assert environment.commit(tmp_path) == {"commit": "not recorded"}
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "one")
    found = environment.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", found["commit"])
    assert found["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert environment.commit(tmp_path) == found | {"dirty": True}


def test_subjects_take_turns_and_the_warm_up_is_left_out():
    calls = []
    steps = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    found = timing.take_turns(steps, rounds=3, warmup=1, measure=lambda step: step())
    assert "".join(calls) == "baabbaab"  # every second round in reverse
    assert found == {"a": (3, 6, 7), "b": (4, 5, 8)}


def test_times_in_a_result_and_in_a_table():
    timings = {"ours": timing.Timing((1.0, 2.0, 3.0, 4.0)), "peer": timing.Timing((2.0, 4.0, 6.0, 8.0))}
    entry = report.beside(timings, "ours")
    assert entry["timings"]["ours"]["median_ms"] == 2500
    assert report.times(entry["timings"]["ours"], 0) == "2500 | 1250 - 3750"
    assert report.spread(entry["ratios"]["peer"], 1) == "2.0 (2.0 - 2.0)"
    table = report.as_table("a | b", [(1, "x")])
    assert report.as_text("Title.", table, "After.") == "Title.\n\n| a | b |\n|---|---|\n| 1 | x |\n\nAfter.\n"


def test_a_result_says_where_it_was_taken():
    where = environment.environment(torch.device("cpu"))
    assert {"device", "cpu", "threads", "date", "commit", "torch"} <= where.keys()


def test_one_command_lists_all_benchmarks_and_gives_the_flags_of_each(capsys):
    assert command.main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, benchmark in registry.BENCHMARKS.items():
        assert f"{name} " in listed
        with contextlib.suppress(SystemExit):
            command.main([name, "--help"])
        assert re.search(rf"benchmarks\.(run )?{name}\b", capsys.readouterr().out)
        assert benchmark.measures in listed
    with pytest.raises(UserError, match="nothing: expected one of train_step, "):
        command.main(["nothing"])


def test_an_evaluation_that_predicts_other_classes_disagrees():
    """The sums alone would not show it: they count the labels."""
    right = np.diag([900, 100])
    swapped = right[:, ::-1].copy()
    same = {evaluation.OURS: right, evaluation.REFERENCE: right, evaluation.EXACT: right}
    assert not any(check.failed for check in evaluation.checks_of(same, "bf16"))
    sums, classes = evaluation.checks_of(same | {evaluation.OURS: swapped}, "bf16")
    assert not sums.failed
    assert classes.failed
    assert classes.could_fail
