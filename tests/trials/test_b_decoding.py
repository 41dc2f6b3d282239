"""B8, B16, D5: images turned by EXIF, damaged images with and without the extension, images beyond the limit."""

import dataclasses
import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast import eval as evaluation
from deeplab_fast import predict, prepare, train
from deeplab_fast.config import TrainConfig
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.ops import extension
from deeplab_fast.storage.checkpoint import WEIGHTS_FORMAT, save_atomically
from tests.native.mutations import chunks_of, png_of
from tests.trials.samples import CLASSES, small


@pytest.fixture
def said(capsys, caplog):
    """Run a command line in this process; returns its exit status and all that it said."""

    def run(main, *argv):
        caplog.clear()
        try:
            status = main(list(argv)) or 0
        except UserError as error:
            status, caplog_text = 2, f"error: {error}"
        else:
            caplog_text = ""
        captured = capsys.readouterr()
        return status, "\n".join([captured.out, captured.err, caplog.text, caplog_text])

    return run


@pytest.fixture
def no_extension(monkeypatch):
    """Switch the extension off, as DEEPLAB_FAST_NO_EXT=1 does."""

    def forget():
        extension.load.cache_clear()
        extension.decoder.cache_clear()

    def switch_off():
        monkeypatch.setenv("DEEPLAB_FAST_NO_EXT", "1")
        forget()

    yield switch_off
    monkeypatch.undo()
    forget()


def write_checkpoint(path, **flags):
    """Untrained weights in the form of ``best.pt``, of a run with these flags."""
    torch.manual_seed(0)
    config = TrainConfig(backbone="resnet18", num_classes=CLASSES, crop_size=65)
    content = {"model": build_model(config).state_dict(), "config": dataclasses.asdict(config) | flags, "miou": 0.5}
    save_atomically({"format": WEIGHTS_FORMAT, "step": 1, "epoch": 1, **content}, path)
    return path


def turn_images(samples, orientation=6):
    """Give every image an EXIF orientation that swaps its sides; the labels stay as they are, of the stored size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in (samples / "images").iterdir():
        Image.open(path).save(path, quality=95, exif=exif)


def turn_labels(samples):
    """As a tool writes them that shows the images turned by orientation 6."""
    for path in (samples / "labels").iterdir():
        Image.open(path).transpose(Image.Transpose.ROTATE_270).save(path)


def data_flags(samples, name="train.txt"):
    return [f"--data_root={samples}", f"--data_lst={samples / name}", f"--num_classes={CLASSES}"]


# ---------------------------------------------------------------- B8


def test_b8_check_names_labels_that_fit_only_the_stored_image(samples, said):
    turn_images(samples)
    status, text = said(prepare.main, "check", *data_flags(samples))
    assert status == 2
    assert "00.png: 96x80 pixels; its image is 80x96 after EXIF orientation 6" in text
    assert "--exif=ignore" in text
    assert said(prepare.main, "check", *data_flags(samples), "--exif=ignore")[0] == 0


def test_b8_check_says_which_images_are_turned(samples, said):
    turn_images(samples)
    turn_labels(samples)
    status, text = said(prepare.main, "check", *data_flags(samples))
    assert status == 0, text
    assert "10 images are turned by their EXIF orientation (--exif=apply); the labels of 10 fit only so" in text
    status, text = said(prepare.main, "check", *data_flags(samples), "--exif=ignore")
    assert status == 2
    assert "it fits the image turned by EXIF orientation 6: --exif=apply" in text


@pytest.mark.parametrize("extension", [True, False])
def test_b8_training_turns_images_or_says_what_does_not_fit(samples, tmp_path, said, no_extension, extension):
    if not extension:
        no_extension()
    turn_images(samples)
    flags = [*data_flags(samples), *small("--max_steps=1", "--eval_epochs=0", f"--train_dir={tmp_path / 'run'}")]
    status, text = said(train.main, *flags)
    assert status == 2
    assert "96x80 pixels; expected 80x96 as its image after EXIF orientation 6" in text
    assert "--exif=ignore" in text
    turn_labels(samples)
    status, text = said(train.main, *flags)
    assert status == 0, text


def test_b8_records_are_checked_as_training_sees_them(samples, tmp_path, said):
    turn_images(samples)
    target = f"--dst_path={tmp_path / 'set.tar'}"
    status, text = said(prepare.main, "records", *data_flags(samples), target)
    assert status == 2
    assert "after EXIF orientation 6" in text
    assert said(prepare.main, "records", *data_flags(samples), target, "--exif=ignore")[0] == 0
    turn_labels(samples)
    assert said(prepare.main, "records", *data_flags(samples), target)[0] == 0


def test_b8_predictions_are_turned_as_the_eye_sees_the_image(samples, tmp_path, said):
    turn_images(samples)
    checkpoint = write_checkpoint(tmp_path / "best.pt")
    flags = [f"--ckpt_path={checkpoint}", f"--input={samples / 'images' / '00.jpg'}", "--device_target=CPU"]
    sizes = {}
    for name, exif in (("default", []), ("ignore", ["--exif=ignore"])):
        status, text = said(predict.main, *flags, f"--output={tmp_path / name}", *exif)
        assert status == 0, text
        sizes[name] = Image.open(tmp_path / name / "00.png").size
    assert sizes == {"default": (80, 96), "ignore": (96, 80)}


def test_b8_an_evaluation_does_as_its_training_did(samples, tmp_path, said):
    turn_images(samples)
    flags = [*data_flags(samples, "val.txt"), "--device_target=CPU", f"--report={tmp_path}"]
    ignoring = write_checkpoint(tmp_path / "ignoring.pt", exif="ignore")
    applying = write_checkpoint(tmp_path / "applying.pt", exif="apply")
    assert said(evaluation.main, f"--ckpt_path={ignoring}", *flags)[0] == 0
    status, text = said(evaluation.main, f"--ckpt_path={applying}", *flags)
    assert status == 2
    assert "after EXIF orientation 6" in text


# ---------------------------------------------------------------- B16


def with_more_pixels(data):
    """A PNG whose stream holds a row more than its header says, every checksum right."""
    chunks = chunks_of(data)
    pixels = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    stream = zlib.compress(pixels + bytes(97))
    return png_of([c if c[0] != b"IDAT" else (b"IDAT", stream) for c in chunks])


def damage(samples):
    """Five files, each damaged where Pillow decodes it all the same."""
    images, labels = samples / "images", samples / "labels"

    def scan_cut(data):
        return data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9"

    def no_code(data):
        at = len(data) - 200
        return data[:at] + b"\xff\x00" * 24 + data[at + 48 :]

    buffer = io.BytesIO()
    Image.open(images / "02.jpg").save(buffer, "JPEG", progressive=True)
    progressive = buffer.getvalue()
    (images / "00.jpg").write_bytes(scan_cut((images / "00.jpg").read_bytes()))
    (images / "01.jpg").write_bytes(no_code((images / "01.jpg").read_bytes()))
    (images / "02.jpg").write_bytes(progressive[: progressive.rindex(b"\xff\xda")] + b"\xff\xd9")
    (labels / "03.png").write_bytes(with_more_pixels((labels / "03.png").read_bytes()))
    (labels / "04.png").write_bytes((labels / "04.png").read_bytes()[:-12])
    return ["00.jpg", "01.jpg", "02.jpg", "03.png", "04.png"]


@pytest.mark.parametrize("extension", [True, False])
def test_b16_damaged_files_are_refused_with_and_without_the_extension(samples, said, no_extension, extension):
    if not extension:
        no_extension()
    assert said(prepare.main, "check", *data_flags(samples))[0] == 0
    names = damage(samples)
    status, text = said(prepare.main, "check", *data_flags(samples))
    assert status == 2
    problems = [line for line in text.splitlines() if line.startswith("problem: ")]
    assert len(problems) == len(names), problems
    for name, line in zip(sorted(names), sorted(problems, key=lambda line: line.split(":")[1][-6:]), strict=True):
        assert name in line
        assert "cannot be decoded at byte" in line


# ---------------------------------------------------------------- D5


def write_large(folder):
    """An image and a label of 12000 x 8000 pixels, a few kB each."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    label = np.zeros((8000, 12000), np.uint8)
    label[:, 6000:] = 1
    Image.fromarray(label * 255).convert("1").save(folder / "images" / "0.png")
    Image.fromarray(label).save(folder / "labels" / "0.png", compress_level=1)
    return [f"--image_dir={folder / 'images'}", f"--label_dir={folder / 'labels'}", "--num_classes=2"]


@pytest.mark.parametrize("extension", [True, False])
def test_d5_the_limit_of_an_image_s_size_is_a_flag(tmp_path, said, no_extension, extension):
    if not extension:
        no_extension()
    flags = write_large(tmp_path / "large")
    status, text = said(prepare.main, "check", *flags)
    assert status == 2
    assert "12000x8000 pixels; expected at most 67108864 (--max_pixels)" in text
    status, text = said(prepare.main, "check", *flags, "--max_pixels=100000000")
    assert status == 0, text


def test_d5_predict_has_the_limit_s_flag(samples, tmp_path, said):
    checkpoint = write_checkpoint(tmp_path / "best.pt")
    flags = [f"--ckpt_path={checkpoint}", f"--input={samples / 'images' / '00.jpg'}", f"--output={tmp_path / 'out'}"]
    status, text = said(predict.main, *flags, "--device_target=CPU", "--max_pixels=7679")
    assert status != 0
    assert "96x80 pixels; expected at most 7679 (--max_pixels)" in text
    status, text = said(predict.main, *flags, "--device_target=CPU", "--max_pixels=7680")
    assert status == 0, text
