"""Mistakes that users make: each gives one clear line and exit status 2, and nothing saved is lost."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

SMALL = [
    "--backbone=resnet18",
    "--num_classes=6",
    "--crop_size=33",
    "--batch_size=4",
    "--max_steps=1",
    "--eval_epochs=0",
]


@pytest.fixture
def data(builtin, tmp_path):
    """A copy of the small data set to break."""
    shutil.copytree(builtin, tmp_path / "data")
    return tmp_path / "data"


def missing_file(data):
    (data / "images/00003.jpg").unlink()
    return ["--data_lst=train.txt"], "images/00003.jpg does not exist"


def missing_list(data):
    return ["--data_lst=none.txt"], "none.txt: No such file or directory; expected a list file"


def list_line_with_one_field(data):
    with (data / "train.txt").open("a") as file:
        file.write("images/00003.jpg\n")
    return ["--data_lst=train.txt"], "train.txt, line 25: 1 field; expected two, 'IMAGE LABEL'"


def label_of_another_size(data):
    for path in (data / "labels").iterdir():
        Image.fromarray(np.eye(8, 9, dtype=np.uint8)).save(path)
    return ["--data_lst=train.txt"], "9x8 pixels; expected"


def label_out_of_range(data):
    (data / "classes.txt").unlink()
    return ["--data_lst=train.txt", "--num_classes=2"], "expected 0 to 1 (--num_classes=2) or 255 (--ignore_label)"


def another_number_of_classes(data):
    return ["--data_lst=train.txt", "--num_classes=5"], "classes.txt names 6 classes; expected --num_classes=6"


def truncated_jpeg(data):
    for path in (data / "images").iterdir():
        path.write_bytes(path.read_bytes()[:1500])
    return ["--data_lst=train.txt"], ".jpg: cannot be decoded"


def unknown_model(data):
    return [
        "--data_lst=train.txt",
        "--model=deeplab_v4",
    ], "--model=deeplab_v4: expected one of deeplab_v3_s16, deeplab_v3_s8"


def crop_zero(data):
    return ["--data_lst=train.txt", "--crop_size=0"], "--crop_size=0: expected at least 17"


def wrong_checkpoint(data):
    torch.save({"encoder.weight": torch.zeros(2)}, data / "w.pth")
    return ["--data_lst=train.txt", "--ckpt_pre_trained=w.pth"], "w.pth: no key matches this model"


def weights_of_no_name(data):
    return ["--data_lst=train.txt", "--ckpt_pre_trained=resnet18"], "=resnet18: no such file; did you mean resnet18-im"


def unwritable_train_dir(data):
    (data / "file").write_text("")
    return ["--data_lst=train.txt", "--train_dir=file/run"], "--train_dir="


def disk_path_instead_of_shard(data):
    return ["--data_file=images", "--data_root="], "no tar shard in this folder; make records with 'prepare records'"


def braces_that_run_backwards(data):
    return ["--data_file=https://host/voc-{3..0}.tar", "--data_root="], "{3..0} runs backwards; expected the smaller"


def records_that_are_nowhere(data):
    url = data.resolve().as_uri()
    return [
        f"--data_file={url}/x/voc-0.tar",
        "--data_root=",
        "--record_cache=c",
    ], "voc-0.tar: cannot be downloaded"


def bad_yaml_key(data):
    (data / "c.yaml").write_text("base_lr: 0.01\nbatchsize: 4\n")
    return ["--data_lst=train.txt", "--config=c.yaml"], "c.yaml: --batchsize: unknown flag; did you mean --batch_size?"


def unknown_recipe(data):
    return ["--data_lst=train.txt", "--config=own_dat"], "--config=own_dat: No such file or directory; expected a YAML"


def crop_of_unreadable_images(data):
    for path in (data / "images").iterdir():
        path.write_bytes(b"")
    return ["--data_lst=train.txt", "--crop_size=auto"], "--crop_size=auto: none of 24 images can be read, the first: "


def fp16_on_cpu(data):
    return ["--data_lst=train.txt", "--precision=fp16", "--device_target=CPU"], "--precision=fp16: needs a GPU"


def unknown_flag(data):
    return ["--data_lst=train.txt", "--bach-size=4"], "--bach_size: unknown flag; did you mean --batch_size?"


def word_for_a_number(data):
    return ["--data_lst=train.txt", "--base_lr=high"], "--base_lr: 'high': expected a number"


def scales_swapped(data):
    return ["--data_lst=train.txt", "--min_scale=3"], "--min_scale=3.0: expected at most --max_scale=2.0"


def more_than_one_data_source(data):
    return ["--data_lst=train.txt", "--data_file=x.tar"], "--data_file and --data_lst: expected one of them"


def gpu_without_one(data):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    return ["--data_lst=train.txt", "--device_target=GPU"], "--device_target=GPU: no CUDA GPU is usable here"


MISTAKES = [
    missing_file, missing_list, list_line_with_one_field, label_of_another_size, label_out_of_range,
    another_number_of_classes, truncated_jpeg, weights_of_no_name,
    unknown_model, crop_zero, wrong_checkpoint, unwritable_train_dir, disk_path_instead_of_shard, bad_yaml_key,
    braces_that_run_backwards, records_that_are_nowhere,
    unknown_recipe, crop_of_unreadable_images,
    fp16_on_cpu, unknown_flag, word_for_a_number, scales_swapped, more_than_one_data_source, gpu_without_one,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_one_line_and_status_2(mistake, data, tmp_path, monkeypatch, capsys):
    """In this process, through the same entry as the command line."""
    from deeplab_fast import train
    from deeplab_fast.cli import run

    flags, words = mistake(data)
    monkeypatch.chdir(data)
    monkeypatch.setattr("sys.argv", ["train", f"--train_dir={tmp_path / 'run'}", f"--data_root={data}", *SMALL, *flags])
    with pytest.raises(SystemExit) as ended:
        run(train.main)
    stderr = capsys.readouterr().err
    assert ended.value.code == 2
    errors = [line for line in stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert stderr.rstrip().endswith(errors[0])
    assert words in errors[0]
    assert "Traceback" not in stderr


def test_from_the_shell(data, run_cli, tmp_path):
    done = run_cli(
        "train", f"--data_root={data}", "--data_lst=nowhere.txt", f"--train_dir={tmp_path / 'run'}", check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere.txt: No such file or directory; expected a list file of 'IMAGE LABEL' lines\n"
    assert done.stdout == ""


def test_a_bad_file_found_late_loses_no_step(data, tmp_path, run_cli):
    order = [line.split()[0] for line in (data / "train.txt").read_text().splitlines()]
    bad = data / order[0]
    bad.write_bytes(bad.read_bytes()[:1500])
    run = tmp_path / "run"
    flags = [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--train_dir={run}", *SMALL, "--num_workers=0"]
    done = run_cli("train", *flags, "--batch_size=1", "--max_steps=24", "--seed=3", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {bad}: cannot be decoded")
    assert "prepare check" in done.stderr.splitlines()[-1]
    assert torch.load(run / "last.pt", weights_only=True)["step"] > 0


OWN = ("--data_root=.", "--image_dir=.", "--label_dir=.")


@pytest.mark.parametrize(
    ("program", "flags", "words"),
    [
        ("eval", ["--data_lst=x"], "--ckpt_path: missing"),
        ("eval", ["--ckpt_path=none.pt"], "none.pt: No such file"),
        ("predict", ["--ckpt_path=x", "--output=y"], "--input: missing"),
        ("predict", ["--ckpt_path=x", "--input=none", "--output=y"], "--input=none: no such file or folder"),
        ("predict", ["--input=x", "--output=y", "--save=masks"], "--save=masks: expected some of classes, overlay"),
        (
            "predict",
            ["--ckpt_path=folder", "--input=https://h/a.jpg", "--output=y"],
            "folder/model.safetensors: damaged",
        ),
        ("eval", ["--ckpt_path=unfinished"], "unfinished/config.json: the folder was not written to its end"),
        ("predict", ["--input=x*.jpg", "--output=y"], "--input=x*.jpg: no image and no video; expected"),
        ("predict", ["--input=https://h/a.mp4", "--output=y"], "https://h/a.mp4: a video at a URL; expected an image"),
        ("export", ["--ckpt_path=x"], "--output: missing"),
        ("export", ["--format=tflite", "--output=x"], "--format=tflite: expected one of onnx, pt2"),
        ("prepare", ["lits"], "prepare lits: unknown; expected one of download, labels, lists, records, check"),
        ("prepare", ["download", "voc"], "prepare download voc: unknown; expected one of voc2012, sbd or weights NAME"),
        ("prepare", ["labels"], "--input: missing; expected the labels"),
        ("prepare", ["labels", "--input=x", "--image_dir=folder", "--output=o"], "--input=x: no such file or folder"),
        ("prepare", ["lists"], "--data_root: missing"),
        ("prepare", ["lists", "--data_root=.", "--group_by=folder"], "--group_by: expected with --image_dir"),
        ("prepare", ["lists", *OWN, "--split=val.txt"], "val.txt stands for the train list; expected train, val, test"),
        ("prepare", ["lists", *OWN, "--split=a,"], "--split=a,: expected one to three files"),
        ("prepare", ["lists", *OWN, "--split=a", "--seed=2"], "--split and --seed: expected one of them"),
        ("prepare", ["lists", *OWN, "--val_share=0.5", "--test_share=0.5"], "expected a sum below 1"),
        ("prepare", ["lists", *OWN, "--output=/dev/null"], "--output=/dev/null: /dev/null is not a folder"),
        ("prepare", ["records", "--data_root=.", "--data_lst=x"], "--dst_path: missing"),
        ("prepare", ["records", "--data_root=.", "--data_lst=x", "--dst_path=."], "x: No such file"),
        ("prepare", ["check"], "--data_lst: missing"),
        ("prepare", ["check", "--image_dir=x"], "--image_dir and --label_dir: expected both"),
        ("runtime.__main__", ["--x"], "--x: unknown flag"),
    ],
)
def test_other_programs(program, flags, words, monkeypatch, capsys, tmp_path):
    import importlib

    from deeplab_fast.cli import run

    monkeypatch.chdir(tmp_path)
    for name, said in {"folder": {"config": {}, "sha256": {}}, "unfinished": {}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x")
        (tmp_path / name / "config.json").write_text(json.dumps({"format": "deeplab_fast.pretrained/1", **said}))
    monkeypatch.setattr("sys.argv", [program, *flags])
    with pytest.raises(SystemExit) as ended:
        run(importlib.import_module(f"deeplab_fast.{program}").main)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_checkpoint_of_a_training_that_diverged(tmp_path, capsys, monkeypatch):
    from deeplab_fast import eval as program
    from deeplab_fast.cli import run
    from deeplab_fast.config import ModelConfig
    from deeplab_fast.model import build_model

    state = build_model(ModelConfig(backbone="resnet18", num_classes=6)).state_dict()
    state["backbone.layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "model.pth")
    monkeypatch.setattr("sys.argv", ["eval", f"--ckpt_path={tmp_path}/model.pth", "--data_lst=x"])
    with pytest.raises(SystemExit) as ended:
        run(program.main)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "model.pth: backbone.layer1.0.conv1.weight holds NaN or infinity; expected finite weights" in said
