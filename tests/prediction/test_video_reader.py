"""Frames of videos: turns, memory, what is damaged, cut short or no video, and time stamps that go back."""

import itertools
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import deeplab_fast
from deeplab_fast import predict
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding
from deeplab_fast.prediction.video.reader import UnusableVideo, VideoReader, open_video, turned
from deeplab_fast.storage.video_files import is_cut_short, is_video

av = pytest.importorskip("av")
videos = pytest.importorskip("tests.prediction.videos")

CPU = {"device_target": "CPU", "precision": "fp32"}


def read(path, **decoding):
    with open_video(Path(path), Decoding(**decoding)) as video:
        return list(video.frames())


TURNS = [m for m in itertools.product((-1, 0, 1), repeat=4) if abs(m[0] * m[3] - m[1] * m[2]) == 1 and m.count(0) == 2]


@pytest.mark.parametrize(("a", "b", "c", "d"), TURNS)
def test_a_display_matrix_places_each_pixel(a, b, c, d):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    placed = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(4) for x in range(5)}
    left, top = (min(place[i] for place in placed) for i in (0, 1))
    found = turned(image, (a << 16, b << 16, c << 16, d << 16))
    assert found.shape[0] * found.shape[1] == 20
    assert all(np.array_equal(found[y - top, x - left], pixel) for (x, y), pixel in placed.items())


def test_memory_holds_a_batch_whatever_the_length(weights, tmp_path, monkeypatch):
    """No more than two batches of five frames, of 200, are alive at any time."""
    images = videos.pictures(20)
    videos.write_video(tmp_path / "long.mp4", images * 10, codec="mpeg4", time_base=1 / videos.NTSC)
    alive, most = set(), 0
    make = VideoReader._frame

    def counted(*args):
        nonlocal most
        frame = make(*args)
        number = frame.number
        alive.add(number)
        weakref.finalize(frame.image, alive.discard, number)
        most = max(most, len(alive))
        return frame

    monkeypatch.setattr(VideoReader, "_frame", counted)
    segment = deeplab_fast.Segmenter(weights, **CPU, batch_size=5)
    assert sum(result.number for result in segment.video(tmp_path / "long.mp4")) == sum(range(200))
    assert 5 <= most <= 10
    most = 0
    flags = [f"--ckpt_path={weights}", f"--input={tmp_path / 'long.mp4'}", f"--output={tmp_path / 'out'}"]
    assert predict.main([*flags, "--device_target=CPU", "--batch_size=5", "--save=classes,overlay,areas"]) == 0
    assert 5 <= most <= 10
    assert len(videos.read_masks(tmp_path / "out/long_classes.mov")[0]) == 200


CONTAINERS = {
    "v.mp4": {"codec": "libx264"},
    "fast.mp4": {"codec": "libx264", "muxer_options": {"movflags": "faststart"}},
    "v.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p", "time_base": Fraction(1, 1000), "pts": range(0, 480, 40)},
    "v.mov": {"codec": "mpeg4", "audio": "aac"},
    "v.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A video in each container, of twelve frames."""
    folder = tmp_path_factory.mktemp("whole")
    images = videos.pictures(12)
    return {name: videos.write_video(folder / name, images, **how) for name, how in CONTAINERS.items()}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_video_cut_short_is_refused(whole, name, tmp_path):
    data = whole[name].read_bytes()
    assert is_video(name)
    assert not is_cut_short(whole[name])
    assert len(read(whole[name])) == 12
    for share in (0.1, 0.35, 0.6, 0.9, 0.999):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UnusableVideo, match=name) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)
    with (tmp_path / name).open("wb") as file:
        file.write(data + b"what a camera appended, or the rest of a block")
    assert len(read(tmp_path / name)) == 12


@pytest.mark.parametrize("name", CONTAINERS)
def test_damage_anywhere_is_one_line_or_harmless(whole, name, tmp_path):
    data = whole[name].read_bytes()
    refused = []
    for place in range(30):
        damaged = bytearray(data)
        at = 4 + (len(data) - 12) * place // 30
        damaged[at : at + 4] = bytes(byte ^ 0x5A for byte in damaged[at : at + 4])
        (tmp_path / name).write_bytes(damaged)
        try:
            assert len(read(tmp_path / name)) == 12
        except UnusableVideo as error:
            refused.append(str(error))
    assert all(str(tmp_path / name) in line and "\n" not in line for line in refused)
    assert len(refused) >= (3 if "mp4" in name else 1)  # what a decoder does not notice nobody can


def test_damaged_videos_are_named_at_the_end_and_the_others_kept(whole, weights, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, path in whole.items():
        (folder / name).write_bytes(path.read_bytes())
    (folder / "v.mov").unlink()  # its result would have the name of v.mp4's
    (folder / "v.mp4").rename(folder / "good.mp4")
    (folder / "v.mkv").unlink()
    (folder / "v.avi").write_bytes((folder / "v.avi").read_bytes()[:5000])
    fast = bytearray((folder / "fast.mp4").read_bytes())
    fast[-600:-500] = bytes(100)
    (folder / "fast.mp4").write_bytes(fast)
    (folder / "junk.mp4").write_bytes(b"no video" * 100)
    (folder / "empty.webm").write_bytes(b"")
    flags = [f"--ckpt_path={weights}", f"--input={folder}", f"--output={tmp_path / 'out'}", "--device_target=CPU"]
    assert predict.main(flags) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-5] == "error: 4 of 5 videos could not be segmented:"
    assert [Path(line.split(": ")[0].strip()).name for line in error[-4:]] == [
        "empty.webm", "fast.mp4", "junk.mp4", "v.avi",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.mp4", "good_classes.mov", "predict.json"]


def test_what_is_no_video_is_one_line(weights, tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        videos.encode_sound(container, sound, 0.5, 0)
    videos.write_video(tmp_path / "v.mp4", videos.pictures(2))
    segment = deeplab_fast.Segmenter(weights, **CPU, max_pixels=64 * 48 - 1)
    (tmp_path / "folder.mp4").mkdir()
    for name, message in (
        ("sound.mp4", r"sound\.mp4: has no video stream"),
        ("none.mp4", r"none\.mp4: cannot be read as a video \(No such file"),
        ("folder.mp4", r"folder\.mp4: cannot be read as a video \(Is a directory"),
        ("v.mp4", r"v\.mp4: 64x48 pixels; expected at most 3071 \(--max_pixels\)"),
    ):
        with pytest.raises(UserError, match=message):
            list(segment.video(tmp_path / name))


def test_pictures_that_change_their_size_are_refused(tmp_path):
    how = {"codec": "mjpeg", "pix_fmt": "yuvj420p"}
    parts = [videos.write_video(tmp_path / f"{i}.avi", videos.pictures(2, 48, 64 + i), **how) for i in (0, 16)]
    with av.open(str(tmp_path / "both.avi"), "w") as both:
        stream = both.add_stream("mjpeg", rate=videos.NTSC)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.codec_context.time_base = 1 / videos.NTSC
        for i, (_, data) in enumerate(packet for part in parts for packet in videos.read_packets(part, "video")):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, 1 / videos.NTSC
            both.mux(packet)
    with pytest.raises(UnusableVideo, match=r"both\.avi: frame 2 has 80x48 pixels; expected 64x48, as the first"):
        read(tmp_path / "both.avi")


def test_a_name_with_a_colon_is_a_file_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    videos.write_video(tmp_path / "12:30 \u00fc.mp4", videos.pictures(2))
    assert len(read("12:30 \u00fc.mp4")) == 2


def test_time_stamps_that_do_not_increase_are_put_behind_one_another(tmp_path):
    class Packets:
        """A stream whose time stamps are ``pts``, as broken recordings have them."""

        def __init__(self, video, pts):
            self._packets, self._pts = list(video.container.demux(video.stream)), list(pts)
            self.frames = [frame for packet in self._packets for frame in packet.decode()]

        def demux(self, stream):
            for frame, pts in zip(self.frames, self._pts, strict=True):
                frame.pts = pts
                yield type("Packet", (), {"size": 1, "dts": 0, "decode": lambda self, frame=frame: [frame]})()

    videos.write_video(tmp_path / "v.avi", videos.pictures(6), codec="mjpeg", pix_fmt="yuvj420p")
    with open_video(tmp_path / "v.avi", Decoding()) as video:
        container = Packets(video, [0, 0, 3, 2, None, 9])
        container.start_time, container.format = 0, video.container.format
        found = list(VideoReader(video.path, video.decoding, container, video.stream).frames())
    assert [frame.pts for frame in found] == [0, 1, 3, 4, 5, 9]
    assert [frame.time for frame in found] == pytest.approx([pts * 1001 / 30000 for pts in (0, 1, 3, 4, 5, 9)])


def test_not_enough_memory_for_a_frame_is_the_video_s_fault(weights, tmp_path, monkeypatch, capsys):
    from deeplab_fast.prediction.network import Network

    whole, seen = Network.score, []

    def score(self, images):
        seen.append(len(images))
        if len(images) > 1 or len(seen) > 5:
            raise MemoryError
        return whole(self, images)

    monkeypatch.setattr(Network, "score", score)
    videos.write_video(tmp_path / "v.mp4", videos.pictures(6))
    flags = [f"--ckpt_path={weights}", f"--input={tmp_path / 'v.mp4'}", f"--output={tmp_path / 'out'}"]
    assert predict.main([*flags, "--device_target=CPU", "--batch_size=3"]) == 1
    assert seen == [3, 1, 1, 1, 3, 1]
    assert "v.mp4: not enough memory for it" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predict.json"]
