"""Videos through the command line: time stamps, colours, sizes, sound, going on, and what cannot be used."""

import csv
import importlib.util
import json
import signal
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import deeplab_fast
from deeplab_fast import predict
from deeplab_fast.errors import Interrupted, UserError
from deeplab_fast.signals import Interruption, interrupting_signals
from tests.prediction.networks import picture

av = pytest.importorskip("av")
videos = pytest.importorskip("tests.prediction.videos")

CPU = {"device_target": "CPU", "precision": "fp32"}


@pytest.fixture
def run(weights, tmp_path):
    def call(source, *flags, out=tmp_path / "out"):
        given = [f"--ckpt_path={weights}", f"--input={source}", f"--output={out}", "--device_target=CPU"]
        return predict.main([*given, "--precision=fp32", *flags])

    return call


PLAIN = ("--clear=False", "--outlines=False")  # colours without edges, which a codec's half of the colours blurs


@pytest.fixture
def clip(tmp_path):
    return videos.write_video(tmp_path / "clip.mp4", videos.pictures(12))


def made(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_overlay_and_classes_are_those_of_the_frames_as_images(run, weights, clip, tmp_path, capsys):
    assert run(clip, *PLAIN) == 0
    assert "1 video segmented" in capsys.readouterr().out
    assert made(tmp_path / "out") == ["clip.mp4", "clip_classes.mov", "predict.json"]
    times, frames = videos.read_video(clip)
    found_times, overlays = videos.read_video(tmp_path / "out/clip.mp4")
    mask_times, masks = videos.read_masks(tmp_path / "out/clip_classes.mov")
    assert found_times == mask_times == times == [i / videos.NTSC for i in range(12)]
    with av.open(str(tmp_path / "out/clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == videos.NTSC
    segment = deeplab_fast.Segmenter(weights, **CPU)
    for image, overlay, mask in zip(frames, overlays, masks, strict=True):
        expected = segment(image)
        assert np.array_equal(mask, expected.classes)
        seen = np.asarray(expected.overlay(clear=False, outlines=False))
        assert videos.psnr(overlay, seen) > 28
        assert videos.psnr(overlay, image) < 20  # what another picture would have
        inside = videos.inside(mask)
        assert np.abs(overlay[inside].astype(int) - seen[inside]).mean() < 5
    assert len(np.unique(masks)) > 1


def test_python_gives_one_result_after_the_other(weights, clip):
    segment = deeplab_fast.Segmenter(weights, **CPU)
    results = list(segment.video(clip))
    times, frames = videos.read_video(clip)
    assert [result.number for result in results] == list(range(12))
    assert [result.time for result in results] == pytest.approx([float(time) for time in times])
    for result, image in zip(results, frames, strict=True):
        assert np.array_equal(result.image, image)
        assert np.array_equal(result.classes, segment(image).classes)
    batched = list(deeplab_fast.Segmenter(weights, **CPU, batch_size=5).video(clip))
    assert len(batched) == 12
    for one, other in zip(results, batched, strict=True):
        assert (one.classes != other.classes).mean() < 0.01  # another batch size rounds differently
    assert np.allclose(results[3].probabilities.sum(0), 1, atol=1e-5)
    assert results[3].overlay(legend=True).size[1] > 48


def test_uneven_time_stamps_are_kept(run, tmp_path):
    pts = [0, 7, 8, 60, 61, 400, 1000, 1001]
    videos.write_video(tmp_path / "v.mov", videos.pictures(8), pts=pts, time_base=Fraction(1, 600))
    assert run(tmp_path / "v.mov", "--save=classes,overlay,areas") == 0
    expected = [Fraction(n, 600) for n in pts]
    assert videos.read_video(tmp_path / "out/v.mp4")[0] == expected
    times, masks = videos.read_masks(tmp_path / "out/v_classes.mov")
    assert times == expected
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").open(encoding="utf-8")))
    counted = {(int(row["frame"]), int(row["class"])): int(row["pixels"]) for row in rows}
    assert counted == {(i, int(c)): int((m == c).sum()) for i, m in enumerate(masks) for c in np.unique(m)}
    assert {(int(row["frame"]), row["time"]) for row in rows} == {(i, f"{n / 600:.6f}") for i, n in enumerate(pts)}
    assert {row["image"] for row in rows} == {"v.mov"}
    content = json.loads((tmp_path / "out/areas.json").read_text())
    whole = np.bincount(np.ravel(masks), minlength=3).tolist()
    assert content["total"]["pixels"] == whole
    assert content["images"] == [{"image": "v.mov", "width": 64, "height": 48, "frames": 8, "pixels": whole}]


def test_an_odd_size_gets_its_last_row_and_column_twice(run, tmp_path):
    images = videos.pictures(3, 47, 65)
    videos.write_video(tmp_path / "v.mkv", images, codec="ffv1", pix_fmt="bgr0", time_base=Fraction(1, 1000))
    assert run(tmp_path / "v.mkv") == 0
    _, overlays = videos.read_video(tmp_path / "out/v.mp4")
    _, masks = videos.read_masks(tmp_path / "out/v_classes.mov")
    assert {overlay.shape for overlay in overlays} == {(48, 66, 3)}
    assert {mask.shape for mask in masks} == {(47, 65)}
    edge = overlays[0][-1].astype(int) - overlays[0][-2], overlays[0][:, -1].astype(int) - overlays[0][:, -2]
    assert all(np.abs(difference).mean() < 4 for difference in edge)


def test_a_turned_video_is_segmented_and_written_as_it_is_seen(run, weights, tmp_path):
    quarter = [0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30]  # a phone held upright: shown turned to the left
    images = videos.pictures(3)
    videos.write_video(tmp_path / "v.mp4", images, matrix=quarter, aspect=Fraction(2))
    assert run(tmp_path / "v.mp4", *PLAIN) == 0
    _, frames = videos.read_video(tmp_path / "v.mp4")
    _, overlays = videos.read_video(tmp_path / "out/v.mp4")
    segment = deeplab_fast.Segmenter(weights, **CPU)
    for image, overlay in zip(frames, overlays, strict=True):
        expected = segment(np.rot90(image).copy()).overlay(clear=False, outlines=False)
        assert overlay.shape == (64, 48, 3)
        assert videos.psnr(overlay, np.asarray(expected)) > 28
    with av.open(str(tmp_path / "out/v.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(1, 2)
        assert next(container.decode(video=0)).rotation == 0
    assert run(tmp_path / "v.mp4", "--exif=ignore", out=tmp_path / "stored") == 0
    assert videos.read_video(tmp_path / "stored/v.mp4")[1][0].shape == (48, 64, 3)


@pytest.mark.parametrize(("name", "format", "begin"), [("v.mp4", None, 0), ("v.mts", "mpegts", 3600)])
def test_sound_is_copied(run, tmp_path, name, format, begin):
    """So is that of a broadcast, whose time stamps do not begin at 0 and whose AAC is packed otherwise."""
    source = videos.write_video(tmp_path / name, videos.pictures(20), audio="aac", format=format, begin=begin)
    assert run(source, "--batch_size=7") == 0
    expected, found = (videos.read_packets(path, "audio") for path in (source, tmp_path / "out/v.mp4"))
    pictures = [videos.read_video(path)[0] for path in (source, tmp_path / "out/v.mp4")]
    shift = pictures[0][0] - pictures[1][0]
    assert shift == pytest.approx(begin, abs=0.1)
    assert pictures[1][0] < 0.1
    assert [float(time - shift) for time, _ in expected] == pytest.approx([float(t) for t, _ in found], abs=1e-3)
    assert [float(time - shift) for time in pictures[0]] == pytest.approx([float(t) for t in pictures[1]], abs=1e-4)
    if format is None:
        assert [data for _, data in found] == [data for _, data in expected]
    assert len(found) > 20


def test_sound_that_mp4_does_not_take_is_left_out_and_said(run, tmp_path, caplog):
    videos.write_video(tmp_path / "v.mkv", videos.pictures(4), time_base=Fraction(1, 1000), pts=[0, 33, 66, 99],
                       audio="wavpack")  # fmt: skip
    assert run(tmp_path / "v.mkv") == 0
    assert "v.mkv: its sound (wavpack) does not go into MP4 and is left out" in caplog.text
    with av.open(str(tmp_path / "out/v.mp4")) as container:
        assert len(container.streams) == 1


@pytest.mark.parametrize("colorspace", [1, 5])
def test_the_file_s_colour_matrix_is_kept(run, weights, tmp_path, colorspace):
    flat = [np.broadcast_to(np.uint8(colour), (48, 64, 3)).copy() for colour in ([220, 30, 40], [20, 200, 60])]
    videos.write_video(tmp_path / "v.mp4", flat, colorspace=colorspace)
    results = list(deeplab_fast.Segmenter(weights, **CPU).video(tmp_path / "v.mp4"))
    assert all(np.abs(result.image.astype(int) - image).max() <= 4 for result, image in zip(results, flat, strict=True))
    assert run(tmp_path / "v.mp4", "--overlay=0.01", "--outlines=False") == 0
    with av.open(str(tmp_path / "out/v.mp4")) as container:
        for frame, image in zip(container.decode(video=0), flat, strict=True):
            assert frame.colorspace == {1: 1, 5: 6}[colorspace]
            assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - image).mean() < 6


def test_without_x264_it_is_mpeg_4(run, clip, tmp_path, monkeypatch):
    fine = videos.write_video(
        tmp_path / "fine.mp4", videos.pictures(6), time_base=Fraction(1, 90000), pts=range(0, 18018, 3003)
    )
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    for source in (clip, fine):
        assert run(source, out=tmp_path / source.stem) == 0
        with av.open(str(tmp_path / source.stem / source.name)) as container:
            assert container.streams.video[0].codec_context.name == "mpeg4"
        found, expected = (videos.read_video(path)[0] for path in (tmp_path / source.stem / source.name, source))
        assert [float(t) for t in found] == pytest.approx([float(t) for t in expected], abs=1e-4)


def test_images_and_videos_of_one_folder(run, tmp_path, capsys):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(picture(33, 65)).save(folder / "a.png")
    videos.write_video(folder / "a.mp4", videos.pictures(3))
    videos.write_video(folder / "sub/b.AVI", videos.pictures(3), codec="mjpeg", pix_fmt="yuvj420p", format="avi")
    flags = ["--save=classes,overlay,areas", "--batch_size=2"]
    assert run(folder, *flags) == 0
    assert "3 files segmented" in capsys.readouterr().out
    names = ["a.mp4", "a.png", "a_classes.mov", "a_overlay.jpg", "areas.csv", "areas.json", "predict.json"]
    assert made(tmp_path / "out") == sorted([*names, "sub/b.mp4", "sub/b_classes.mov"])
    rows = list(csv.DictReader((tmp_path / "out/areas.csv").open(encoding="utf-8")))
    frames = {name: {row["frame"] for row in rows if row["image"] == name} for name in ("a.png", "a.mp4", "sub/b.AVI")}
    assert frames == {"a.png": {""}, "a.mp4": {"0", "1", "2"}, "sub/b.AVI": {"0", "1", "2"}}
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made(tmp_path / "out")}
    assert run(folder, *flags) == 0
    assert "3 of them by an earlier run" in capsys.readouterr().out
    after = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} <= {"areas.csv", "areas.json", "predict.json"}
    # Results below a folder are no input.
    assert run(folder, out=folder / "out") == 0
    assert run(folder, out=tmp_path / "other") == 0
    assert "3 files segmented" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["clip.mp4", "clip_classes.mov"])
def test_what_was_cut_short_is_made_again(run, clip, tmp_path, name, capsys):
    run(clip)
    whole = (tmp_path / "out" / name).read_bytes()
    masks = (tmp_path / "out/clip_classes.mov").read_bytes()
    overlays = np.stack(videos.read_video(tmp_path / "out/clip.mp4")[1])
    for rest in (whole[: len(whole) // 2], b""):
        (tmp_path / "out" / name).write_bytes(rest)
        assert run(clip) == 0
        assert "by an earlier run" not in capsys.readouterr().out
        assert (tmp_path / "out/clip_classes.mov").read_bytes() == masks
        again = np.stack(videos.read_video(tmp_path / "out/clip.mp4")[1])
        assert np.array_equal(again, overlays)


def test_results_of_others_are_not_replaced(run, clip, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"clip\.mp4 is no result of this program"):
        run(clip)
    assert (out / "clip.mp4").read_bytes() == b"mine"
    assert run(clip, "--overwrite") == 0
    with pytest.raises(UserError, match="differs in --flip=True"):
        run(clip, "--flip=True")
    videos.write_video(clip, videos.pictures(4))
    with pytest.raises(UserError, match=r"clip_classes\.mov is the result of another image, or of this one before"):
        run(clip)
    with pytest.raises(UserError, match=r"clip\.mp4 is an input"):
        run(clip, out=tmp_path)
    videos.write_video(tmp_path / "clip.mov", videos.pictures(4))
    with pytest.raises(UserError, match=r"its result would have the name of .*clip\.m"):
        run(tmp_path / "clip.*", out=tmp_path / "new")


@pytest.fixture
def listening(monkeypatch):
    """Take signals as ``cli.run`` does, for one test."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in interrupting_signals()}
    Interruption().listen()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_video_leaves_nothing_and_is_made_again(run, clip, tmp_path, monkeypatch, how, capsys):
    from deeplab_fast.prediction.video.writer import OverlayVideo

    write = OverlayVideo.write
    first = videos.write_video(tmp_path / "a.mp4", videos.pictures(3))

    def stopped(self, frame, picture):
        if self.video.path == clip and frame.number == 7:
            signal.raise_signal(how)
        write(self, frame, picture)

    with monkeypatch.context() as patch:
        patch.setattr(OverlayVideo, "write", stopped)
        with pytest.raises(KeyboardInterrupt if how == signal.SIGINT else Interrupted):
            run(tmp_path / "*.mp4", "--batch_size=3")
    assert "1 of 2 videos done, run again to continue" in capsys.readouterr().err
    assert made(tmp_path / "out") == ["a.mp4", "a_classes.mov", "predict.json"]
    assert run(tmp_path / "*.mp4", "--batch_size=3") == 0
    assert "1 of them by an earlier run" in capsys.readouterr().out
    assert len(videos.read_video(tmp_path / "out/clip.mp4")[0]) == 12
    assert first.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(run, clip, tmp_path, monkeypatch):
    from deeplab_fast.prediction.video import writer

    monkeypatch.setattr(writer, "file_url", lambda path: "file:/dev/full")
    with pytest.raises(UserError, match=r"clip\.mp4: cannot be written \(No space left"):
        run(clip)
    assert made(tmp_path / "out") == ["predict.json"]


def test_flags_that_a_video_does_not_take(run, clip, tmp_path):
    for kind in ("probabilities", "polygons"):
        with pytest.raises(UserError, match=rf"--save={kind}: is of images alone; .*clip\.mp4 is a video"):
            run(clip, f"--save=classes,{kind}")
    assert not (tmp_path / "out").exists()
    assert run(clip, "--save=classes") == 0
    assert made(tmp_path / "out") == ["clip_classes.mov", "predict.json"]
    assert run(clip, "--legend", "--outlines", "--clear", out=tmp_path / "legend") == 0
    heights = {overlay.shape[0] for overlay in videos.read_video(tmp_path / "legend/clip.mp4")[1]}
    assert len(heights) == 1
    assert heights.pop() > 60


@pytest.fixture
def without_av(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else find(name, *rest))


def test_without_the_package_it_is_one_line_that_says_what_to_install(run, weights, clip, tmp_path, without_av, caplog):
    (tmp_path / "in").mkdir()
    clip.rename(tmp_path / "in/clip.mp4")
    (tmp_path / "l.txt").write_text("in/clip.mp4\n")
    for source in (tmp_path / "in", tmp_path / "in/clip.mp4", tmp_path / "in/*", tmp_path / "l.txt"):
        with pytest.raises(UserError, match=r"clip\.mp4: needs the package av; pip install 'deeplab_fast\[video\]'"):
            run(source)
    with pytest.raises(UserError, match=r"pip install 'deeplab_fast\[video\]'"):
        deeplab_fast.Segmenter(weights, **CPU).video(tmp_path / "in/clip.mp4")
    Image.fromarray(picture(33, 65)).save(tmp_path / "in/a.png")
    assert run(tmp_path / "in", "--save=classes") == 0
    assert made(tmp_path / "out") == ["a.png", "predict.json"]
    assert "left out: 1 video; needs the package av; pip install" in caplog.text
