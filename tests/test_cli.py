import dataclasses
import json
import re
from contextlib import nullcontext

import pytest

from benchmarks.evaluation import EvaluationConfig
from deeplab_fast.cli import parse_flags
from deeplab_fast.config import EvalConfig, TrainConfig, validate, validate_train
from deeplab_fast.config.other_names import OTHER_NAMES, unknown_flag
from deeplab_fast.errors import UserError
from deeplab_fast.predict import PredictConfig
from deeplab_fast.training.presets import resolve


def parse(*argv):
    return parse_flags(TrainConfig, argv, "deeplab_fast.train", "")


def test_dashes_and_underscores_are_the_same():
    assert parse("--batch-size=4", "--base_lr", "0.1") == {"batch_size": 4, "base_lr": 0.1}


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--lr=0.1", "--lr: unknown flag; here: --base_lr"),
        ("--work-dir=x", "--work_dir: unknown flag; here: --train_dir"),
        ("--group_size=8", "--group_size: unknown flag; here: torchrun starts"),
        ("--base_lt=1", "--base_lt: unknown flag; did you mean --base_lr"),
        ("--zzz=1", "--zzz: unknown flag; see --help"),
    ],
)
def test_an_unknown_flag_is_told_its_name_here(flag, said):
    with pytest.raises(UserError, match=f"^{said}"):
        parse(flag)


def test_what_other_programs_flags_are_called_here_exists():
    ours = {field.name for config in (TrainConfig, EvalConfig) for field in dataclasses.fields(config)}
    assert {flag for text in OTHER_NAMES.values() for flag in re.findall(r"--(\w+)", text)} <= ours
    assert not ours & OTHER_NAMES.keys()
    assert "; here: " not in unknown_flag("--work_dir", ["--output"])


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("--flip=False", "flip", False),
        ("--flip", "flip", True),
        ("--freeze-bn=true", "freeze_bn", True),
        ("--aspp_rates=12,24,36", "aspp_rates", (12, 24, 36)),
        ("--image_mean=[103.53, 116.28, 123.675]", "image_mean", (103.53, 116.28, 123.675)),
        ("--dropout=0.5", "dropout", 0.5),
    ],
)
def test_values(text, field, value):
    assert parse_flags(EvalConfig, [text], "x", "") == {field: value}


def test_yaml_then_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "base_lr: 0.2\nbatch-size: 8\nclass_weights: [1, 2, 3]\nsync_bn: true\ntrain_dir:\n"
    )
    flags = parse(f"--config={tmp_path / 'c.yaml'}", "--base_lr=0.3")
    assert flags == {"base_lr": 0.3, "batch_size": 8, "class_weights": (1.0, 2.0, 3.0), "sync_bn": True}


def test_a_runs_own_configuration_is_a_file_of_flags(tmp_path):
    config = TrainConfig(class_weights=(1.0, 2.0), num_classes=2, fused="off", data_file="a b.tar")
    text = json.dumps(dataclasses.asdict(config), indent=1)
    (tmp_path / "config.json").write_text(text, encoding="utf-8-sig")
    assert TrainConfig(**parse(f"--config={tmp_path / 'config.json'}")) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base_lr: [", "not valid YAML"),
        ("- 1\n", "expected lines of 'flag: value'"),
        ("base_lr: {a: 1}", "key base_lr: holds a mapping"),
        ("bas_lr: 1", "did you mean --base_lr"),
        ("base_lr: x", "'x': expected a number"),
    ],
)
def test_bad_yaml_names_the_file(text, words, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        parse(f"--config={tmp_path / 'c.yaml'}")
    assert "c.yaml" in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        parse("--config=none.yaml")


def test_words_without_a_flag():
    with pytest.raises(UserError, match="data: unexpected; every option is written --name=value"):
        parse("data")
    with pytest.raises(UserError, match=r"--flip: .*expected True or False"):
        parse_flags(EvalConfig, ["--flip=maybe"], "x", "")


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for words in ("--crop_size N", "Optimiser and schedule", "[0.015]", "deeplab_v3_s16|deeplab_v3_s8"):
        assert words in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"class_weights": (1.0, 2.0)}, "--class_weights: 2 weights; expected 21"),
        ({"ohem": True, "label_smoothing": 0.1}, "--ohem: cannot be combined"),
        (
            {"recompute_activations": True, "fused": "off"},
            "--recompute_activations=True: has no effect with --fused=off",
        ),
        ({"recompute_activations": True, "speed": "compile+graph"}, r"has no effect with --speed=compile\+graph"),
        ({"recompute_activations": True, "backbone": "resnet18"}, "has no effect with --backbone=resnet18"),
        ({"image_mean": (1.0,)}, "--image_mean=.*: expected 3 numbers"),
        ({"data_lst": "x"}, "--data_root: missing"),
        ({"data_root": "x"}, "--data_lst: missing"),
        ({"val_data_lst": "x", "data_file": "y.tar"}, "--val_data_root: missing"),
        ({"val_data_lst": "x", "val_data_file": "z", "data_file": "y.tar"}, "--val_data_file and --val_data_lst"),
        ({"val_data_file": "y.tar"}, "--val_data_file and --val_data_lst: need training data of your own"),
        ({"multi_grid": ()}, "--multi_grid: empty; expected at least one number"),
        ({"momentum": 1.0}, "--momentum=1.0: expected at most"),
        ({"base_lr": 0.0}, "--base_lr=0.0: expected more than 0"),
        ({"ignore_label": 256}, "--ignore_label=256: expected at most 255"),
        ({"aspp_rates": (6, 0)}, r"--aspp_rates=\(6, 0\): expected at least 1"),
    ],
)
def test_validation_names_the_flag(flags, words):
    with pytest.raises(UserError, match=words):
        validate_train(TrainConfig(**flags))


@pytest.mark.parametrize("text", ["--resume", "--resume=true", "--resume=True"])
def test_resume_reads_like_a_switch(text):
    assert parse(text) == {"resume": "True"}


@pytest.mark.parametrize("config_class", [TrainConfig, EvalConfig, PredictConfig, EvaluationConfig])
def test_precision_and_its_default(config_class, capsys):
    """A class may have another default than the one it inherits the flag from, and other choices."""
    default = config_class().precision
    assert default == ("auto" if config_class in (TrainConfig, PredictConfig) else "fp32")
    with pytest.raises(SystemExit):
        parse_flags(config_class, ["--help"], "x", "")
    text = " ".join(capsys.readouterr().out.split("--precision ")[1].split("--fused")[0].split())
    assert text.endswith(f"[{default}]")
    takes_auto = config_class is not EvaluationConfig  # a benchmark says what it measured
    assert text.startswith("auto|fp32|bf16|fp16" if takes_auto else "fp32|bf16|fp16")
    with nullcontext() if takes_auto else pytest.raises(UserError, match="--precision=auto: expected one of fp32"):
        validate(config_class(precision="auto"))


def test_presets_give_way_to_flags():
    config = resolve({"crop_size": 65}, on_gpu=False)
    assert config.is_builtin
    assert (config.crop_size, config.num_classes, config.train_dir) == (65, 6, "runs/builtin")
    assert config.precision == "auto"  # so that the run continues on another machine
    assert resolve({}, on_gpu=True).crop_size > config.crop_size
    own = resolve({"data_file": "x.tar"}, on_gpu=False)
    assert (own.crop_size, own.num_classes, own.train_dir) == (513, 21, "runs/deeplab_v3_s16")
