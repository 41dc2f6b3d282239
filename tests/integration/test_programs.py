"""The other programs, from files to files, in this process."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast import eval as evaluate_program
from deeplab_fast import export, predict, prepare
from deeplab_fast.config import ModelConfig
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.runtime import __main__ as report_of_machine


@pytest.fixture(scope="module")
def trained(tmp_path_factory, builtin):
    """A checkpoint of a small network, not trained at all."""
    torch.manual_seed(0)
    config = {"backbone": "resnet18", "num_classes": 6, "crop_size": 65, "multi_grid": [1, 2, 4]}
    model = build_model(ModelConfig(backbone="resnet18", num_classes=6))
    path = tmp_path_factory.mktemp("trained") / "best.pt"
    torch.save({"format": "deeplab_fast.weights/1", "model": model.state_dict(), "config": config}, path)
    return path


@pytest.mark.parametrize("flags", [[], ["--scales_type=1", "--flip=True"]])
def test_eval(flags, trained, builtin, tmp_path, capsys):
    data = [f"--data_root={builtin}", f"--data_lst={builtin}/val.txt", "--num_workers=0"]
    evaluate_program.main([f"--ckpt_path={trained}", f"--report={tmp_path / 'r'}", *data, *flags])
    name = f"metrics-best-val{'-ms-flip' if flags else ''}.json"
    metrics = json.loads((tmp_path / "r" / name).read_text())
    assert metrics["protocol"]["crop_size"] == 65
    assert metrics["protocol"]["flip"] is bool(flags)
    assert len(metrics["protocol"]["scales"]) == (5 if flags else 1)
    assert list(metrics["per_class_iou"]) == ["background", "disc", "box", "triangle", "cross", "ring"]
    labelled = sum(
        int((np.asarray(Image.open(builtin / line.split()[1])) != 255).sum())
        for line in (builtin / "val.txt").read_text().splitlines()
    )
    assert np.sum(metrics["confusion_matrix"]) == labelled
    assert metrics["images"] == 7
    out = capsys.readouterr().out
    assert "triangle" in out
    assert name in out
    page = tmp_path / "r" / "report.html"
    assert out.endswith(f"report {page}\n")
    assert f'name="subject" content="{name}"' in page.read_text()


def test_predict(trained, builtin, tmp_path, capsys):
    predict.main([f"--ckpt_path={trained}", f"--input={builtin / 'images'}", f"--output={tmp_path}"])
    name = "00003"
    label = Image.open(tmp_path / f"{name}.png")
    image = Image.open(builtin / "images" / f"{name}.jpg")
    assert label.mode == "P"
    assert label.size == image.size
    assert np.asarray(label).max() < 6
    assert Image.open(tmp_path / f"{name}_overlay.jpg").size == image.size
    one = [f"--ckpt_path={trained}", f"--input={builtin / 'images' / '00003.jpg'}", f"--output={tmp_path / 'one'}"]
    predict.main([*one, "--overlay=0"])
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["00003.png", "predict.json"]


def test_images_of_every_format_are_evaluated_and_predicted_alike(trained, builtin, tmp_path, capsys):
    """The same pixels in PNG, BMP, TIFF and WebP; a file that is refused is named."""
    matrices = []
    for suffix in ("png", "bmp", "tif", "webp"):
        root = tmp_path / suffix
        for kind in ("images", "labels"):
            (root / kind).mkdir(parents=True)
        for name in ("00003", "00004"):
            lossless = {"lossless": True} if suffix == "webp" else {}
            Image.open(builtin / "images" / f"{name}.jpg").save(root / "images" / f"{name}.{suffix}", **lossless)
            (root / "labels" / f"{name}.png").write_bytes((builtin / "labels" / f"{name}.png").read_bytes())
        given = [f"--data_root={root}", f"--image_dir={root}/images", f"--label_dir={root}/labels"]
        prepare.main(["lists", *given, "--val_share=0"])
        data = [f"--data_root={root}", f"--data_lst={root}/train_lst.txt", "--num_workers=0"]
        evaluate_program.main([f"--ckpt_path={trained}", f"--report={root}", *data])
        matrices.append(json.loads((root / "metrics-best-train_lst.json").read_text())["confusion_matrix"])
        predict.main([f"--ckpt_path={trained}", f"--input={root / 'images'}", f"--output={root / 'out'}"])
        masks = [np.asarray(Image.open(tmp_path / of / "out" / "00004.png")) for of in ("png", suffix)]
        assert np.array_equal(*masks)
    assert all(matrix == matrices[0] for matrix in matrices)
    Image.new("CMYK", (20, 10)).save(tmp_path / "c.tif")
    capsys.readouterr()
    assert predict.main([f"--ckpt_path={trained}", f"--input={tmp_path}/c.tif", f"--output={tmp_path}/c"]) == 1
    assert "c.tif: TIFF of mode CMYK; expected 8-bit grey, palette or RGB" in capsys.readouterr().err


def test_predict_replaces_neither_an_input_nor_another_result(trained, tmp_path):
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    flags = [f"--ckpt_path={trained}", f"--input={tmp_path}"]
    with pytest.raises(UserError, match=r"a\.png is an input; expected another folder"):
        predict.main([*flags, f"--output={tmp_path}"])
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.png: its result would have the name of .*a\.jpg's"):
        predict.main([*flags, f"--output={tmp_path / 'out'}"])


def test_a_bare_state_dict_or_a_run_folder_is_enough(trained, builtin, tmp_path, capsys):
    bare = torch.load(trained, weights_only=True)["model"]
    torch.save(bare, tmp_path / "raw.pth")
    data = [f"--data_root={builtin}", f"--data_lst={builtin}/val.txt", "--num_workers=0", f"--report={tmp_path}"]
    figures = []
    for path, name, flags in ((tmp_path / "raw.pth", "raw", ["--crop_size=65"]), (trained.parent, "best", [])):
        evaluate_program.main([f"--ckpt_path={path}", *data, *flags])
        figures.append(json.loads((tmp_path / f"metrics-{name}-val.json").read_text())["confusion_matrix"])
    assert figures[0] == figures[1]


def test_export_says_one_line(trained, tmp_path, run_cli):
    done = run_cli("export", f"--ckpt_path={trained}", f"--output={tmp_path / 'm.onnx'}")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.long
@pytest.mark.parametrize(("name", "head"), [("onnx", "recipe"), ("pt2", "torchvision")])
def test_export(name, head, tmp_path, capsys):
    pytest.importorskip("onnxruntime") if name == "onnx" else None
    model = build_model(ModelConfig(backbone="resnet18", num_classes=4, head=head))
    torch.save(
        {
            "format": "deeplab_fast.weights/1",
            "model": model.state_dict(),
            "config": {"backbone": "resnet18", "num_classes": 4, "head": head},
        },
        tmp_path / "w.pt",
    )
    flags = [
        f"--ckpt_path={tmp_path / 'w.pt'}",
        f"--format={name}",
        f"--output={tmp_path / 'out' / name}",
        "--crop_size=65",
    ]
    export.main(flags)
    assert "probabilities agree within" in capsys.readouterr().out
    assert (tmp_path / "out" / name).stat().st_size > 1 << 20


def test_prepare_from_lists_to_check(builtin, tmp_path, capsys):
    data = [f"--data_root={builtin}", f"--data_lst={builtin}/train.txt", "--num_classes=6"]
    prepare.main(["records", *data, f"--dst_path={tmp_path}/x.tar", "--num_shards=2"])
    assert "24 samples in 2 shards" in capsys.readouterr().out
    checked = ["check", "--num_classes=6", f"--data_file={tmp_path}/x.tar", "--num_workers=0"]
    prepare.main([*checked, f"--val_data_lst={builtin}/val.txt", f"--data_root={builtin}"])
    out = capsys.readouterr().out
    assert "triangle" in out
    assert "--class_weights=" in out
    prepare.main(["lists", f"--data_root={tmp_path}", *own_folders(builtin, tmp_path), "--val_share=0.25"])
    assert len((tmp_path / "val_lst.txt").read_text().splitlines()) == 8
    assert len((tmp_path / "train_lst.txt").read_text().splitlines()) == 23
    prepare.main([])
    assert "usage:" in capsys.readouterr().out


def own_folders(builtin, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).symlink_to(builtin / name)
    return [f"--image_dir={tmp_path}/images", f"--label_dir={tmp_path}/labels"]


def test_prepare_lists_on_real_data(shared_data, tmp_path, capsys):
    """290 / 110 / 350 lines from the sample of VOC and SBD; records of them that the checker likes."""
    import shutil

    for name in ("VOCdevkit", "benchmark_RELEASE"):
        shutil.copytree(shared_data / name, tmp_path / name, copy_function=shutil.copyfile)
    prepare.main(["lists", f"--data_root={tmp_path}"])
    out = capsys.readouterr().out
    for name, count in (("voc_train", 290), ("voc_val", 110), ("vocaug_train", 350)):
        assert len((tmp_path / f"{name}_lst.txt").read_text().splitlines()) == count
        assert f"{count} samples (the full data set has" in out
    data = [f"--data_root={tmp_path}", f"--data_lst={tmp_path}/vocaug_train_lst.txt"]
    prepare.main(["records", *data, f"--dst_path={tmp_path}/r/aug.tar", "--num_shards=4"])
    prepare.main(["check", f"--data_file={tmp_path}/r/aug.tar", f"--data_root={tmp_path}",
                  f"--val_data_lst={tmp_path}/voc_val_lst.txt", "--absent_classes=1,2,bus,14,train"])  # fmt: skip
    assert "aeroplane" in capsys.readouterr().out


def test_runtime_report(capsys):
    assert report_of_machine.main([]) == 0
    out = capsys.readouterr().out
    for subject in ("versions", "CPU", "GPU", "extension"):
        assert f"\n{subject}" in f"\n{out}"
