"""``prepare convert --to=checkpoint``: a run saved as the MindSpore recipe saves it goes on as the run itself does."""

import json
import logging

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.cli import parse_flags
from deeplab_fast.config import TrainConfig
from deeplab_fast.errors import UserError
from deeplab_fast.model.weights import as_mindspore, read_mindspore, write_mindspore
from deeplab_fast.prepare import main as prepare
from deeplab_fast.storage.checkpoint import load
from deeplab_fast.training import fit
from deeplab_fast.training.optim import learning_rate
from deeplab_fast.training.presets import resolve
from tests.faults.tiny import make_tiny
from tests.trials.samples import small, write_samples

BEGUN, TOTAL = 3, 6  # of a run of two steps an epoch: in the middle of the second


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch.setattr)
        patch.setattr(fit, "write_report", lambda folder, *_, **__: folder / "report")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"))


def flags_of(data, folder, *flags):
    data_flags = [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--train_dir={folder}", "--eval_epochs=0"]
    return small(*data_flags, f"--max_steps={TOTAL}", "--save_steps=1", "--log_steps=1", "--dropout=0", *flags)


def slots(content):
    """The momentum of a checkpoint of ours by parameters' names: groups as the optimiser has them, norms last."""
    model = content["model"]
    norms = {key.rpartition(".")[0] for key in model if key.endswith(".running_mean")}
    names = [key for key in model if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    order = [k for k in names if k.rpartition(".")[0] not in norms] + [
        k for k in names if k.rpartition(".")[0] in norms
    ]
    buffers = content["optimiser"]["state"]
    return {name: buffers[i]["momentum_buffer"] for i, name in enumerate(order)}


def as_recipe_saves(content, rates=None):
    """A checkpoint of ours as the recipe's callback writes it."""
    moments = slots(content)
    weights = as_mindspore(content["model"])
    statistics = {k: v for k, v in content["model"].items() if k.endswith(("running_mean", "running_var"))}
    named = as_mindspore({**moments, **statistics})  # the norms are told by their statistics
    written = {f"moments.{key}": tensor for key, tensor in named.items() if not key.endswith(("_mean", "_variance"))}
    assert len(written) == len(moments)
    state = {"global_step": torch.tensor([content["step"]], dtype=torch.int32), "momentum": torch.tensor(0.9)}
    rates = torch.ones(TOTAL) if rates is None else rates
    return {**weights, **state, **written, "learning_rate": rates}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that was never interrupted, and its checkpoint after ``BEGUN`` steps."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train.main(flags_of(data, folder)) == 0
    return folder, load(folder / f"deeplab_v3_s16-2_{BEGUN - 2}.pt")


@pytest.fixture
def saved(whole, data, tmp_path):
    """The recipe's checkpoint of that moment."""
    config = resolve(parse_flags(TrainConfig, flags_of(data, tmp_path), "x", "x"), on_gpu=False)
    rates = torch.tensor([learning_rate(config, step, TOTAL) for step in range(TOTAL)])
    write_mindspore(tmp_path / "deep lab-2_1.ckpt", as_recipe_saves(whole[1], rates))
    return tmp_path / "deep lab-2_1.ckpt"


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: (line["loss"], line["lr"]) for line in lines if "loss" in line}


def to_checkpoint(path, flags):
    return prepare(["convert", str(path), "--to=checkpoint", *flags])


def test_the_run_goes_on_as_it_would_have(whole, saved, data, tmp_path, caplog, capsys):
    original, content = whole
    flags = flags_of(data, tmp_path / "run")
    assert to_checkpoint(saved, flags) == 0
    assert f"last.pt: step {BEGUN} of {TOTAL}; the same flags" in capsys.readouterr().out
    assert "warning" not in caplog.text.lower()
    made = load(tmp_path / "run/last.pt")
    for key, tensor in content["model"].items():
        assert key.endswith("num_batches_tracked") or torch.equal(made["model"][key], tensor), key
    for key, tensor in slots(content).items():
        assert torch.equal(slots(made)[key], tensor), key
    assert {key: made[key] for key in ("step", "data", "total_steps")} == {
        key: content[key] for key in ("step", "data", "total_steps")
    }
    with caplog.at_level(logging.INFO):
        assert train.main(flags) == 0
    assert f"step {BEGUN} of {TOTAL}" in caplog.text
    assert "not the one that was interrupted" not in caplog.text
    expected, found = losses(original), losses(tmp_path / "run")
    assert sorted(found) == list(range(BEGUN + 1, TOTAL + 1))
    for step, pair in found.items():
        assert pair == pytest.approx(expected[step], rel=1e-6)
    end = [load(folder / "deeplab_v3_s16-3_2.pt")["model"] for folder in (original, tmp_path / "run")]
    for key, tensor in end[0].items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(end[1][key], tensor, rtol=1e-6, atol=1e-6)


def test_an_average_of_the_weights_begins_with_them(saved, whole, data, tmp_path):
    to_checkpoint(saved, flags_of(data, tmp_path / "run", "--ema_decay=0.5"))
    average = load(tmp_path / "run/last.pt")["average"]
    name = next(key for key in average if key.endswith("backbone.conv1.weight"))
    assert torch.equal(average[name], whole[1]["model"]["backbone.conv1.weight"])


def test_the_channels_of_rgb_files_stay(saved, data, tmp_path):
    to_checkpoint(saved, flags_of(data, tmp_path / "run", "--ckpt_channels=rgb"))
    made, raw = load(tmp_path / "run/last.pt"), read_mindspore(saved)
    assert torch.equal(made["model"]["backbone.conv1.weight"], raw["network.resnet.conv1.weight"])
    assert torch.equal(slots(made)["backbone.conv1.weight"], raw["moments.network.resnet.conv1.weight"])


def test_flags_that_are_not_those_of_the_file_are_said(whole, data, tmp_path, caplog):
    content = as_recipe_saves(whole[1], rates=torch.ones(TOTAL))
    write_mindspore(tmp_path / "x.ckpt", content | {"momentum": torch.tensor(0.8)})
    to_checkpoint(tmp_path / "x.ckpt", flags_of(data, tmp_path / "a"))
    assert "trained with momentum 0.8; it goes on with 0.9" in caplog.text
    assert "its next learning rate is 1; it goes on with 0.005" in caplog.text
    write_mindspore(tmp_path / "x.ckpt", content | {"learning_rate": torch.ones(7)})
    to_checkpoint(tmp_path / "x.ckpt", flags_of(data, tmp_path / "b"))
    assert "its schedule has 7 steps, these flags and data 6" in caplog.text


def without(beginning):
    return lambda content: {key: value for key, value in content.items() if not key.startswith(beginning)}


FIRST = "moments.network.resnet.conv1.weight"


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (without("moments."), [], r"has no moments\.\*; expected a checkpoint of a training with Momentum"),
        (without(FIRST), [], r"has no momentum of backbone\.conv1\.weight"),
        (
            lambda c: c | {FIRST: torch.zeros(64, 3, 5, 7)},
            [],
            r"momentum of backbone\.conv1\.weight is 64x3x5x7; expected",
        ),
        (lambda c: c | {FIRST: torch.full((64, 3, 7, 7), torch.nan)}, [], "holds NaN or infinity"),
        (lambda c: c | {"moments.network.x": torch.zeros(1)}, [], "unexpected momentum of x"),
        (without("network.resnet.bn1.moving_mean"), [], r"has no backbone\.bn1\.running_mean"),
        (without("global_step"), [], "has no global_step"),
        (lambda c: c | {"global_step": torch.zeros(2)}, [], "global_step is 2; expected one whole number"),
        (lambda c: c | {"global_step": torch.tensor([-1])}, [], "global_step is -1; expected at least 0"),
        (lambda c: c | {"global_step": torch.tensor([TOTAL + 1])}, [], "ended step 7, beyond the last one, 6"),
        (lambda c: c, ["--num_classes=4"], "see --num_classes"),
        (lambda c: c, ["--head=smp"], "expected weights of this --model, --backbone and --head"),
        (lambda c: c, ["--data_lst=none.txt"], "none.txt: No such file"),
        (lambda c: c, ["--output=x.pt"], r"writes into --train_dir; leave it out"),
        (lambda c: c, ["--overwrite=True"], "takes a free --train_dir"),
    ],
)
def test_what_cannot_go_on_is_refused_in_one_line(whole, data, tmp_path, change, flags, said):
    write_mindspore(tmp_path / "x.ckpt", change(as_recipe_saves(whole[1])))
    with pytest.raises(UserError, match=said) as refused:
        to_checkpoint(tmp_path / "x.ckpt", flags_of(data, tmp_path / "run", *flags))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("run/*"))


def test_a_file_of_torch_is_no_mindspore_checkpoint(data, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="not a MindSpore checkpoint"):
        to_checkpoint(tmp_path / "x.ckpt", flags_of(data, tmp_path / "run"))


def test_a_folder_with_a_run_is_left_alone_or_moved(saved, data, tmp_path, capsys):
    flags = flags_of(data, tmp_path / "run")
    to_checkpoint(saved, flags)
    before = (tmp_path / "run/last.pt").read_bytes()
    with pytest.raises(UserError, match=r"holds a run \(last\.pt\); choose another folder, or --resume=False"):
        to_checkpoint(saved, flags)
    assert (tmp_path / "run/last.pt").read_bytes() == before
    to_checkpoint(saved, [*flags, "--resume=False"])
    assert "continue it, but for --resume=False, which would start over" in capsys.readouterr().out
    assert (tmp_path / "run/previous-1/last.pt").read_bytes() == before
    assert load(tmp_path / "run/last.pt")["step"] == BEGUN
