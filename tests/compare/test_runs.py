"""Whole comparisons, small: what is written, what is kept, what ends them."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from deeplab_fast.compare import one_run, ours, runs
from deeplab_fast.compare.command import main
from deeplab_fast.compare.config import CompareConfig
from deeplab_fast.compare.plan import completed
from deeplab_fast.errors import TrainingDiverged, UserError
from deeplab_fast.storage.run_folder import locked
from tests.trials.samples import CLASSES, write_samples


def flags_of(root):
    return {
        **{"data_root": str(root), "data_lst": f"{root}/train.txt", "val_data_lst": f"{root}/val.txt"},
        **{"backbone": "resnet18", "num_classes": CLASSES, "crop_size": 33, "batch_size": 4, "epochs": 1},
        **{"seeds": 1, "num_workers": 1, "device_target": "CPU", "output": f"{root}/my out"},
    }


def arguments(root, **more):
    return [f"--{name}={value}" for name, value in {**flags_of(root), **more}.items()]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished comparison of one seed, in a folder with a space in its name; to be read only."""
    root = write_samples(tmp_path_factory.mktemp("my data"))
    assert main(arguments(root)) == 0
    return root


@pytest.fixture
def finished(compared, tmp_path, monkeypatch):
    """A copy of its output, and no process that may be started."""

    def refuse(command):
        raise AssertionError(command)

    monkeypatch.setattr(runs, "_wait", refuse)
    shutil.copytree(compared / "my out", tmp_path / "out")
    return compared, tmp_path / "out"


def test_both_are_trained_and_evaluated_alike(compared):
    out = compared / "my out"
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "compare.md", "compare.svg", "runs"]
    found = json.loads((out / "compare.json").read_text())
    ours_, reference = found["runs"]
    assert [ours_["implementation"], reference["implementation"]] == ["ours", "reference"]
    for run in found["runs"]:
        assert (run["steps"], run["images_seen"], run["images"]) == (2, 8, 2)
        assert 0 <= run["miou"] <= 1
        assert run["peak_memory_mb"] > 100
        assert run["training"]["head"] == "torchvision"
        assert run["environment"]["torchvision"]
    assert reference["networks_differ_by"] < 1e-3


def test_a_second_call_runs_nothing_and_writes_the_page_anew(finished, capsys):
    root, out = finished
    (out / "compare.md").unlink()
    assert main(arguments(root, output=out)) == 0
    assert (out / "compare.md").read_text().strip() in capsys.readouterr().out


def test_results_of_other_flags_are_refused_and_stay(finished):
    root, out = finished
    before = (out / "runs/ours-1.json").read_bytes()
    with pytest.raises(UserError, match=r"ours-1\.json: of another comparison, by --epochs=2; expected"):
        main(arguments(root, output=out, epochs=2))
    assert (out / "runs/ours-1.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", '{"made_from": {}}', '{"made_from": 1, "miou": 1}', "{\n\0"])
def test_a_damaged_result_is_named(finished, content):
    root, out = finished
    (out / "runs/reference-1.json").write_text(content)
    with pytest.raises(UserError, match=r"reference-1\.json: not a result of a comparison"):
        main(arguments(root, output=out))


def test_more_seeds_keep_the_runs_that_are_there(finished, monkeypatch):
    root, out = finished
    asked = []
    monkeypatch.setattr(runs, "_wait", lambda command: asked.append(command) or 2)
    with pytest.raises(UserError, match=r"^ours, seed 2: ended with status 2; finished runs are kept$"):
        main(arguments(root, output=out, seeds=2))
    assert len(asked) == 1
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []


def test_a_run_that_diverged_says_so(finished, monkeypatch):
    root, out = finished
    monkeypatch.setattr(runs, "_wait", lambda command: one_run.DIVERGED)
    with pytest.raises(TrainingDiverged, match=r"^ours, seed 2"):
        main(arguments(root, output=out, seeds=2))


def test_only_a_loss_that_is_none_is_called_divergence(finished, monkeypatch, tmp_path, capsys):
    root, out = finished
    monkeypatch.setattr(runs, "_wait", lambda command: 1)  # as Python's after a traceback
    with pytest.raises(UserError, match=r"^ours, seed 2: ended with status 1; finished runs are kept$"):
        main(arguments(root, output=out, seeds=2))

    def diverge(job):
        raise TrainingDiverged("step 3: loss is nan")

    monkeypatch.setattr(one_run.Job, "read", lambda path: SimpleNamespace(result=None))
    monkeypatch.setattr(one_run, "measure", diverge)
    assert one_run.main(["job.json"]) == one_run.DIVERGED
    assert capsys.readouterr().err == "error: step 3: loss is nan\n"


def test_what_a_killed_comparison_left_is_removed_and_a_second_one_waits(finished, tmp_path):
    root, out = finished
    (out / ".run-abc").mkdir()
    (out / ".run-abc/initial.pt").write_bytes(b"weights")
    main(arguments(root, output=out))
    assert not list(out.glob(".run-*"))
    with locked(out), pytest.raises(UserError, match=rf"^--output={out}: another run is writing there"):
        main(arguments(root, output=out))


def test_mistakes_end_before_a_run(finished):
    root, out = finished
    with pytest.raises(UserError, match=r"^--batch_size=64: the training data has only 10 images"):
        main(arguments(root, output=out, batch_size=64))
    file = out / "a file"
    file.write_text("")
    with pytest.raises(UserError, match="a file is not a folder"):
        main(arguments(root, output=file / "below"))


def job(root, tmp_path, implementation, seconds=0.0, **more):
    config = completed({**flags_of(root), **more}, on_gpu=False)
    initial = tmp_path / "initial.pt"
    weights = runs.initial_weights(config, seed=3)
    torch.save(weights, initial)
    return one_run.Job(config, implementation, 3, initial, tmp_path, tmp_path / "r.json", seconds, {}), weights


def test_a_job_is_read_as_it_was_written(compared, tmp_path):
    one, _ = job(compared, tmp_path, "ours")
    one.write(tmp_path / "job.json")
    assert one_run.Job.read(tmp_path / "job.json") == one


@pytest.mark.parametrize(
    ("implementation", "head", "prefix"),
    [("ours", "torchvision", ""), ("ours", "recipe", "backbone."), ("reference", "torchvision", "")],
)
def test_both_start_from_the_same_weights(compared, tmp_path, monkeypatch, implementation, head, prefix):
    """A learning rate of nothing leaves them as they were; what BatchNorm counts moves."""
    kept = {}

    def instead(weights, config, held_out, device):
        kept.update(weights)
        raise UserError("enough")

    monkeypatch.setattr(one_run, "score", instead)
    one, weights = job(compared, tmp_path, implementation, base_lr=1e-30, head=head)
    with pytest.raises(UserError, match="enough"):
        one_run.measure(one)
    compared_keys = [k for k in kept if k.startswith(prefix) and k.endswith((".weight", ".bias"))]
    assert len(compared_keys) > 50
    assert [k for k in compared_keys if not torch.allclose(kept[k], weights[k], atol=1e-20)] == []


def test_a_seed_decides_the_weights_at_the_start():
    config = CompareConfig(backbone="resnet18")
    first, again, other = (runs.initial_weights(config, seed)["backbone.conv1.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_ours_gets_as_many_steps_as_fit_into_the_references_time(tmp_path, monkeypatch, compared):
    def fake(config, device, fill):
        os.makedirs(config.train_dir, exist_ok=True)
        lines = ['{"step": 1, "step_ms": 9000}', '{"step": 10, "step_ms": 500}']
        (tmp_path / "run-probe/timing.jsonl").write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(ours, "train_ours", fake)
    one, _ = job(compared, tmp_path, "ours")
    config = one_run.training_inputs(one.config)
    config = type(config)(**{**vars(config), "train_dir": str(tmp_path / "run")})
    assert ours.fitting_steps(config, 20.2, torch.device("cpu"), lambda model: None) == 40
    assert ours.fitting_steps(config, 0.1, torch.device("cpu"), lambda model: None) == 1


def test_time_left_is_said_once_both_were_seen():
    key = [("ours", 1), ("reference", 1), ("ours", 2), ("reference", 2)]
    found = {key[0]: {"seconds": 60.0}, key[1]: None, key[2]: None, key[3]: None}
    assert runs.time_left(key[1:], found) == ""
    found[key[1]] = {"seconds": 120.0}
    assert runs.time_left(key[2:], found) == "; about 3.0 min of training left"


def test_an_interruption_ends_the_run_that_goes_on(tmp_path):
    """The signal is SIGINT, which it may answer."""
    mark = tmp_path / "mark"
    code = f"import pathlib, time\ntry:\n  pathlib.Path({str(mark)!r}).write_text('began')\n  time.sleep(60)\n"
    code += f"except KeyboardInterrupt:\n  pathlib.Path({str(mark)!r}).write_text('ended')\n"

    def interrupt():
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        runs._wait([sys.executable, "-c", code])
    assert mark.read_text() == "ended"
