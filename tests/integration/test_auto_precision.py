"""``--precision=auto`` from the first step to the last: what is chosen, said, stored and kept.

The CPU is pretended to multiply bf16 natively, or not to.
"""

import json
import logging
import os
import re

import pytest
import torch

from deeplab_fast import eval as evaluate_program
from deeplab_fast import predict, train
from deeplab_fast.errors import UserError
from deeplab_fast.runtime import precision
from deeplab_fast.training import fit
from tests.faults.tiny import make_tiny
from tests.spawning import free_port, in_processes
from tests.trials.samples import small, write_samples

NEWEST = "deeplab_v3_s16-1_1.pt"
WHY_FP32 = "this CPU does not multiply bf16 natively: no AMX, no AVX512_BF16"
ASKED_FOR_BF16 = f"speed: bf16 (as asked, although {WHY_FP32}), eager"
INSTRUCTIONS = {"bf16": "AMX", "fp32": ""}  # by what auto makes of them


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"), count=6)


@pytest.fixture
def auto_is(monkeypatch):
    """Make auto this precision, by the CPU's instructions."""
    return lambda name: monkeypatch.setattr(precision, "cpu_bf16_instructions", lambda: INSTRUCTIONS[name])


def flags_of(samples, folder, *flags):
    """A step or two of a tiny network, without ``--precision``."""
    data = [f"--train_dir={folder}", f"--data_root={samples}", f"--data_lst={samples}/train.txt", "--crop_size=33"]
    return [*(f for f in small(*data, "--eval_epochs=0") if not f.startswith("--precision")), *flags]


@pytest.fixture
def start(samples, tmp_path, monkeypatch, caplog):
    """Train in ``tmp_path/run``; returns what the program says."""
    make_tiny(monkeypatch.setattr)
    monkeypatch.setattr(fit, "write_report", lambda folder, *_, **__: folder / "report")

    def one(*flags):
        caplog.clear()
        with caplog.at_level(logging.INFO, "deeplab_fast"):
            train.main(flags_of(samples, tmp_path / "run", *flags))
        return caplog.messages

    return one


def stored(folder, checkpoint=NEWEST):
    """The precision in the run's two configurations, its checkpoint's and its own."""
    content = torch.load(folder / checkpoint, weights_only=True)
    return content["config"]["precision"], json.loads((folder / "config.json").read_text())["precision"]


def speed_line(said):
    (line,) = [line for line in said if line.startswith("speed:")]
    return line


@pytest.mark.parametrize(("name", "reason"), [("bf16", "AMX"), ("fp32", WHY_FP32)])
@pytest.mark.parametrize("how", ["by default", "in a file"])
def test_a_new_run_says_and_stores_what_auto_is(how, name, reason, start, auto_is, tmp_path):
    auto_is(name)
    (tmp_path / "run.yaml").write_text("precision: auto\n")
    said = start("--max_steps=1", *([f"--config={tmp_path / 'run.yaml'}"] if how == "in a file" else []))
    assert speed_line(said) == f"speed: {name} ({reason}), eager (a CUDA graph needs a GPU)"
    assert any(f"1 steps of {name} on cpu" in line for line in said)
    assert stored(tmp_path / "run") == (name, name)


@pytest.mark.parametrize(("began", "here"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_goes_on_as_it_began_on_another_machine(began, here, start, auto_is, tmp_path):
    auto_is(began)
    start("--max_steps=1")
    auto_is(here)
    said = start("--max_steps=2")
    assert speed_line(said) == f"speed: {began} (as it began), eager (a CUDA graph needs a GPU)"
    assert [line for line in said if "goes on in" in line] == [
        f"--train_dir={tmp_path / 'run'}: goes on in {began}, as it began; auto would begin in"
        f" {here} ({INSTRUCTIONS[here] or WHY_FP32}) here"
    ]
    assert stored(tmp_path / "run", "deeplab_v3_s16-2_1.pt") == (began, began)
    with pytest.raises(UserError, match=rf"^--precision={here}: .* was trained with {began}; give the same"):
        start("--max_steps=3", f"--precision={here}")
    assert "goes on in" not in " ".join(start("--max_steps=3", f"--precision={began}"))


def test_a_run_that_was_asked_for_a_precision_goes_on_in_it(start, auto_is, tmp_path):
    auto_is("fp32")
    assert speed_line(start("--max_steps=1", "--precision=bf16")).startswith(ASKED_FOR_BF16)
    assert speed_line(start("--max_steps=2")).startswith("speed: bf16 (as it began), eager")


def test_a_run_that_starts_over_chooses_anew(start, auto_is, tmp_path):
    auto_is("bf16")
    start("--max_steps=1")
    auto_is("fp32")
    assert speed_line(start("--max_steps=1", "--resume=False")).startswith(f"speed: fp32 ({WHY_FP32}), eager")


def test_the_configuration_of_a_run_repeats_its_arithmetic_elsewhere(start, auto_is, tmp_path):
    auto_is("bf16")
    start("--max_steps=1")
    auto_is("fp32")
    said = start(f"--config={tmp_path / 'run/config.json'}", f"--train_dir={tmp_path / 'again'}")
    assert speed_line(said).startswith(ASKED_FOR_BF16)
    assert stored(tmp_path / "again") == ("bf16", "bf16")


def test_a_run_in_fp16_does_not_go_on_without_a_gpu(start, tmp_path):
    start("--max_steps=1")
    path = tmp_path / "run" / NEWEST
    content = torch.load(path, weights_only=True)
    content["config"]["precision"] = "fp16"
    torch.save(content | {"format": "deeplab_fast.checkpoint/1", "log_positions": {}}, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"^--train_dir=.*/run: began in fp16, which needs a GPU; ") as caught:
        start("--max_steps=2")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "here", "expected"),
    [([], "bf16", "fp32"), (["--precision=auto"], "bf16", "bf16"), (["--precision=auto"], "fp32", "fp32")],
)
def test_an_evaluation_stores_what_it_computed_in(flags, here, expected, start, auto_is, samples, tmp_path, caplog):
    start("--max_steps=1")
    auto_is(here)
    caplog.clear()
    given = [f"--ckpt_path={tmp_path / 'run' / NEWEST}", f"--data_root={samples}", f"--data_lst={samples}/val.txt"]
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        evaluate_program.main([*given, f"--report={tmp_path}", "--device_target=CPU", *flags])
    (path,) = tmp_path.glob("metrics-*.json")
    metrics = json.loads(path.read_text())
    assert metrics["precision"] == metrics["provenance"]["flags"]["precision"] == expected
    speed = [line for line in caplog.messages if line.startswith("speed:")]
    assert speed == ([f"speed: {here} ({INSTRUCTIONS[here] or WHY_FP32})"] if flags else [])


@pytest.fixture
def segment(start, samples, tmp_path, caplog):
    """Segment the samples into ``tmp_path/out``; returns what the program says."""
    start("--max_steps=1")

    def one(*flags):
        caplog.clear()
        given = [f"--ckpt_path={tmp_path / 'run' / NEWEST}", f"--input={samples / 'images'}"]
        with caplog.at_level(logging.INFO, "deeplab_fast"):
            predict.main([*given, f"--output={tmp_path / 'out'}", "--device_target=CPU", *flags])
        return caplog.messages

    return one


def made_in(folder):
    return json.loads((folder / "predict.json").read_text())["provenance"]["flags"]["precision"]


@pytest.mark.parametrize(("began", "here"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_predictions_go_on_as_they_began(began, here, segment, auto_is, tmp_path, capsys):
    auto_is(began)
    assert speed_line(segment()) == f"speed: {began} ({INSTRUCTIONS[began] or WHY_FP32})"
    assert made_in(tmp_path / "out") == began
    (tmp_path / "out/02.png").unlink()
    auto_is(here)
    assert speed_line(segment()) == f"speed: {began} (as it began)"
    assert "5 of them by an earlier run" in capsys.readouterr().out
    with pytest.raises(UserError, match=rf"which differs in --precision={here}; choose another"):
        segment(f"--precision={here}")
    segment("--overwrite=True")
    assert made_in(tmp_path / "out") == here


def train_as_rank(rank, port, samples, folder, instructions):
    """One of several processes of a run, on a host whose CPU has these instructions; what it says goes to a file."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    make_tiny()
    precision.cpu_bf16_instructions = lambda: instructions[rank]
    fit.write_report = lambda folder, *_, **__: folder / "report"
    logging.basicConfig(filename=f"{folder}.{rank}", format="%(message)s", level=logging.INFO)
    train.main(flags_of(samples, folder, "--batch_size=2", "--max_steps=1", "--num_workers=0"))


@pytest.mark.parametrize("instructions", [("AMX", ""), ("", "AMX")])
def test_hosts_that_differ_agree(instructions, samples, tmp_path):
    in_processes(train_as_rank, free_port(), samples, tmp_path / "run", instructions)
    assert stored(tmp_path / "run") == ("fp32", "fp32")
    said = (tmp_path / "run.0").read_text()
    assert f"speed: fp32 (rank {instructions.index('')}: {WHY_FP32}), eager" in said
    assert not re.search("speed:", (tmp_path / "run.1").read_text())
