"""Predictions: a folder is segmented as far as it can be, and nobody's file is replaced without a word."""

import errno
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trials.samples import write_samples


@pytest.fixture
def samples(tmp_path):
    """Half as many samples as the other trials have, and smaller."""
    return write_samples(tmp_path / "data", count=6, size=(48, 40))


def files(folder):
    """What each file holds and when it was written."""
    return {p.relative_to(folder): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def masks(folder):
    return sorted(p.name for p in folder.glob("*.png"))


def at_reading(monkeypatch, name, act):
    """Call ``act`` before the file of this name is read."""
    read = Path.read_bytes

    def read_bytes(self):
        if self.name == name:
            act()
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


ALL = [f"{i:02}.png" for i in range(6)]


def truncate(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def test_d1_the_others_are_done_and_the_bad_ones_named(predict, samples, tmp_path):
    truncate(samples / "images/01.jpg")
    (samples / "images/03.jpg").write_bytes(b"no image")
    ended = predict()
    assert ended.status == 1
    assert masks(tmp_path / "out") == [name for name in ALL if name not in ("01.png", "03.png")]
    assert ended.error == "error: 2 of 6 images could not be segmented:"
    named = ended.err.splitlines()[-2:]
    assert [Path(line.split(": ")[0].strip()).name for line in named] == ["01.jpg", "03.jpg"]
    assert "4 images segmented" in ended.out


def test_d1_done_ones_are_skipped_when_run_again(predict, samples, tmp_path):
    whole = truncate(samples / "images/03.jpg")
    predict()
    before = files(tmp_path / "out")
    (samples / "images/03.jpg").write_bytes(whole)
    ended = predict()
    after = files(tmp_path / "out")
    assert ended.status == 0
    assert "6 images segmented" in ended.out
    assert "5 of them by an earlier run" in ended.out
    assert {name: after[name] for name in before if name.suffix != ".json"} == {
        name: content for name, content in before.items() if name.suffix != ".json"
    }
    assert {str(name) for name in after.keys() - before.keys()} == {"03.png", "03_overlay.jpg"}
    predict("--overwrite=True")
    again = files(tmp_path / "out")
    assert all(
        again[name][0] == after[name][0] and again[name][1] > after[name][1] for name in after if name.suffix == ".png"
    )


def test_d1_a_result_cut_short_is_made_again(predict, tmp_path):
    predict()
    before = files(tmp_path / "out")
    truncate(tmp_path / "out" / "02.png")
    truncate(tmp_path / "out" / "04_overlay.jpg")
    assert predict().status == 0
    after = files(tmp_path / "out")
    made_again = {str(name) for name in after if after[name] != before[name] and name.suffix == ".png"}
    assert made_again == {"02.png", "04.png"}
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }


@pytest.mark.parametrize("name", ["02.png", "02_overlay.jpg"])
def test_d1_a_result_that_was_damaged_is_made_again_and_named(name, predict, tmp_path):
    predict()
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 8]) + whole[-39:])
    ended = predict()
    assert ended.status == 0
    assert f"warning: {path}: damaged; it is made again" in ended.err
    assert "5 of them by an earlier run" in ended.out
    assert path.read_bytes() == whole


def test_d1_results_of_another_checkpoint_or_flag_are_not_taken_for_ours(predict, tmp_path):
    predict("--overlay=0")
    before = files(tmp_path / "out")
    for network, flags, words in ((1, [], "weights"), (0, ["--flip=True"], "--flip=True")):
        ended = predict("--overlay=0", *flags, network=network)
        assert ended.status == 2
        assert f"differs in {words}; choose another --output, or --overwrite=True" in ended.error
        assert files(tmp_path / "out") == before
    assert predict("--overlay=0", "--flip=True", "--overwrite=True", network=1).status == 0
    after = files(tmp_path / "out")
    assert after.keys() == before.keys()
    assert all(after[name][1] > before[name][1] for name in before)


def test_d1_an_overwriting_run_that_was_interrupted_goes_on(predict, tmp_path, monkeypatch):
    predict("--overlay=0")
    first = True

    def interrupt():
        nonlocal first
        if not first:
            raise KeyboardInterrupt
        first = False  # read for what was there before

    with monkeypatch.context() as patch:
        at_reading(patch, "02.jpg", interrupt)
        assert predict("--overlay=0", "--overwrite=True", network=1).status == 130
    half = files(tmp_path / "out")
    assert predict("--overlay=0", network=1).status == 2  # four are the first network's
    assert predict("--overlay=0", network=0).status == 2  # two are the second's
    assert files(tmp_path / "out") == half
    ended = predict("--overlay=0", "--overwrite=True", network=1)
    assert ended.status == 0
    assert "2 of them by an earlier run" in ended.out
    assert predict("--overlay=0", network=1).status == 0


def test_d1_a_file_of_another_s_is_not_replaced(predict, tmp_path):
    """A folder of labels drawn by hand, given by mistake."""
    out = tmp_path / "out"
    out.mkdir()
    Image.fromarray(np.ones((80, 96), np.uint8)).save(out / "04.png")
    before = files(out)
    ended = predict()
    assert ended.status == 2
    assert "04.png is no result of this program; remove it, choose another --output, or --overwrite=True" in ended.error
    assert files(out) == before
    assert predict("--overwrite=True").status == 0
    assert masks(out) == ALL


def test_d1_a_result_of_another_image_of_that_name_is_not_taken_for_ours(predict, tmp_path):
    predict()
    before = files(tmp_path / "out")
    other = write_samples(tmp_path / "other", count=6, size=(32, 40))
    ended = predict(source=other / "images")
    assert ended.status == 2
    assert "00.png is the result of another image, or of this one before it was changed (and 5 more)" in ended.error
    assert files(tmp_path / "out") == before


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_d1_a_full_disk_is_one_line_and_what_is_done_stays(predict, tmp_path, monkeypatch):
    write = Path.write_bytes

    def full(self, data):
        if self.name.startswith(".03."):  # not a process number with these digits
            write(self, b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        ended = predict("--overlay=0")
    assert ended.status == 2
    assert "No space left on device" in ended.error
    assert ended.error.endswith("; 3 of 6 images done, run again to continue")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*ALL[:3], "predict.json"]
    assert "3 of them by an earlier run" in predict("--overlay=0").out
    assert masks(tmp_path / "out") == ALL


@pytest.mark.parametrize("removed", [".", "sub"])
def test_d1_a_folder_removed_meanwhile_is_not_made_anew(predict, samples, tmp_path, monkeypatch, removed):
    """Made anew, it would hold half of the results, and nobody would say so."""
    (samples / "images/sub").mkdir()
    for i in (0, 5):
        (samples / f"images/{i:02}.jpg").rename(samples / f"images/sub/{i:02}.jpg")
    at_reading(monkeypatch, "04.jpg", lambda: shutil.rmtree(tmp_path / "out" / removed))
    ended = predict()
    assert ended.status == 2
    assert "cannot be written (No such file or directory); " in ended.error
    assert not (tmp_path / "out" / removed).exists()


@pytest.fixture
def survives_sigterm():
    """Whoever leaves SIGTERM to its default ends a test, not all of them."""
    old = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGTERM, old)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.usefixtures("survives_sigterm")
def test_d1_a_signal_says_how_many_are_done_and_the_next_run_goes_on(predict, tmp_path, monkeypatch, name, status):
    with monkeypatch.context() as patch:
        at_reading(patch, "03.jpg", lambda: os.kill(os.getpid(), signal.Signals[name]))
        ended = predict()
    assert ended.status == status
    assert "3 of 6 images done, run again to continue\n" in ended.err
    before = files(tmp_path / "out")
    assert "3 of them by an earlier run" in predict().out
    after = files(tmp_path / "out")
    assert all(after[name] == before[name] for name in before if name.suffix != ".json")
    assert masks(tmp_path / "out") == ALL


def test_d1_an_image_that_vanishes_or_needs_too_much_memory_is_a_bad_one(predict, samples, tmp_path, monkeypatch):
    from deeplab_fast.prediction import batches as program

    decode, errors = (
        program.decode_image,
        {
            "00.jpg": MemoryError(),
            "01.jpg": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"),
            "02.jpg": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        },
    )

    def decode_image(data, where, *args, **options):
        if error := errors.get(Path(where).name):
            raise error
        return decode(data, where, *args, **options)

    monkeypatch.setattr(program, "decode_image", decode_image)
    at_reading(monkeypatch, "03.jpg", (samples / "images/04.jpg").unlink)
    ended = predict()
    assert ended.status == 1
    named = [line.strip() for line in ended.err.splitlines() if line.startswith("  ")]
    assert [Path(line.split(":")[0]).name for line in named] == ["00.jpg", "01.jpg", "02.jpg", "04.jpg"]
    assert all(line.endswith("not enough memory for it") for line in named[:3])
    assert named[3].endswith("No such file or directory")
    assert len(masks(tmp_path / "out")) == 2


def test_d1_earlier_results_below_the_input_are_no_input(call, networks, samples):
    flags = [f"--ckpt_path={networks[0]}", f"--input={samples / 'images'}", f"--output={samples / 'images/masks'}"]
    assert call("predict", *flags).status == 0
    before = files(samples / "images")
    ended = call("predict", *flags)
    assert ended.status == 0
    assert "left out: 12 results of earlier predictions in" in ended.err
    assert files(samples / "images").keys() == before.keys()


def test_d1_images_beside_results_or_another_s_predict_json_are_input(call, networks, samples):
    for name in ("masks", "other"):
        (samples / "images" / name).mkdir()
        shutil.copy(samples / "images/00.jpg", samples / "images" / name / "mine.jpg")
    (samples / "images/other/predict.json").write_text("{}")
    one = [f"--ckpt_path={networks[0]}", f"--input={samples / 'images/00.jpg'}", "--output"]
    assert call("predict", *one, str(samples / "images/masks")).status == 0
    ended = call(
        "predict", f"--ckpt_path={networks[0]}", f"--input={samples / 'images'}", f"--output={samples / 'out'}"
    )
    assert "8 images segmented" in ended.out
    assert "left out: 2 results of earlier predictions in" in ended.err


def test_d1_the_input_folder_is_no_output_folder(call, networks, samples):
    flags = [f"--ckpt_path={networks[0]}", f"--input={samples / 'images'}", f"--output={samples / 'images'}"]
    ended = call("predict", *flags)
    assert ended.status == 2
    assert "is --input; the next prediction would find results there" in ended.error


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nhalf of somebody's work"])
def test_d1_somebody_s_broken_file_is_not_taken_for_a_result_cut_short(content, predict, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/02.png").write_bytes(content)
    ended = predict()
    assert ended.status == 2
    assert "02.png is no result of this program" in ended.error
    assert (tmp_path / "out/02.png").read_bytes() == content
