"""Videos as cameras, recorders and attackers make them: other files named in one, sound that MP4 lacks, and time."""

import struct
from fractions import Fraction

import numpy as np
import pytest

from deeplab_fast import predict
from deeplab_fast.ops import Decoding
from deeplab_fast.prediction.products import Products
from deeplab_fast.prediction.video.reader import UnusableVideo, open_video
from deeplab_fast.prediction.video.timeline import Timeline

av = pytest.importorskip("av")
videos = pytest.importorskip("tests.prediction.videos")


@pytest.fixture
def run(weights, tmp_path):
    def call(source, *flags):
        given = [f"--ckpt_path={weights}", f"--input={source}", f"--output={tmp_path / 'out'}", "--device_target=CPU"]
        return predict.main([*given, "--precision=fp32", *flags])

    return call


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\nhttp://127.0.0.1:9/other.ts\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path, text):
    videos.write_video(tmp_path / "other.mp4", videos.pictures(2))
    videos.write_video(tmp_path / "other.ts", videos.pictures(2), format="mpegts")
    (tmp_path / "list.mp4").write_text(text)
    with (
        pytest.raises(UnusableVideo, match=r"list\.mp4: cannot be read as a video"),
        open_video(tmp_path / "list.mp4", Decoding()) as video,
    ):
        list(video.frames())


def test_a_frame_without_bytes_was_dropped_by_the_recorder(tmp_path):
    """The frame before it is shown longer; the others keep their times."""
    path = videos.write_video(tmp_path / "v.mp4", videos.pictures(6), codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 16
    assert struct.unpack(">I", data[at - 4 : at]) == (6,)
    data[at + 20 : at + 24] = bytes(4)  # the size of the last of them
    path.write_bytes(data)
    with open_video(path, Decoding()) as video:
        found = list(video.frames())
    assert [frame.time for frame in found] == pytest.approx([i / 30000 * 1001 for i in range(5)])


def test_recordings_that_were_appended_go_on_one_after_the_other(run, tmp_path):
    part = videos.write_video(tmp_path / "part.mts", videos.pictures(20), audio="aac", format="mpegts")
    (tmp_path / "v.mts").write_bytes(part.read_bytes() * 3)
    assert run(tmp_path / "v.mts") == 0
    times = np.array([float(time) for time in videos.read_video(tmp_path / "out/v.mp4")[0]])
    assert len(times) == 60
    assert np.diff(times) == pytest.approx(np.full(59, 1001 / 30000), abs=1e-4)
    sound = np.array([float(time) for time, _ in videos.read_packets(tmp_path / "out/v.mp4", "audio")])
    assert len(sound) == 3 * len(videos.read_packets(part, "audio"))
    assert np.diff(sound) == pytest.approx(np.full(len(sound) - 1, 1024 / 44100), abs=1e-3)
    mask_times = videos.read_masks(tmp_path / "out/v_classes.mov")[0]
    assert [float(time) for time in mask_times] == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([-3, 0, 4], [-3, 0, 4]),
        ([0, 0, 3, 2, 9], [0, 1, 3, 4, 9]),
        ([0, 10, 20, 0, 10, 20, 0], [0, 10, 20, 30, 40, 50, 60]),  # twice over again
        ([100, 110, 95, 120], [100, 110, 111, 120]),  # not far enough back for another recording
        ([0, 10, 1000, 20, 30], [0, 10, 1000, 1010, 1020]),
    ],
)
def test_a_timeline(stamps, expected):
    timeline = Timeline(Fraction(1, 38))  # so that 20 units back are more than half a second
    assert [timeline.place(stamp, 10) for stamp in stamps] == expected


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_u8"])
def test_sound_is_left_out_where_its_kind_or_its_channels_are_not_for_mp4(run, tmp_path, codec, caplog):
    """Matroska does not say which channels PCM has, and MP4 wants to know."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=44100, layout="stereo")
        sound.codec_context.open()
        videos.encode_sound(container, sound, 0.2, 0)
        for i, image in enumerate(videos.pictures(5)):
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert run(path) == 0
    assert f"v.mkv: its sound ({codec}) does not go into MP4 and is left out" in caplog.text
    assert len(videos.read_video(tmp_path / "out/v.mp4")[0]) == 5


def test_a_file_that_cannot_be_completed_is_the_video_s_fault(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deeplab_fast.prediction.video.audio._goes_into_mp4", lambda stream: True)
    test_path = tmp_path / "v.mkv"
    videos.write_video(
        test_path, videos.pictures(4), time_base=Fraction(1, 1000), pts=[0, 33, 66, 99], audio="pcm_s16le"
    )
    assert run(test_path) == 1
    assert "v.mkv: its .mp4 file cannot be completed (Invalid argument)" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predict.json"]


def test_not_enough_memory_to_draw_a_frame_leaves_the_other_videos(run, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        videos.write_video(tmp_path / f"{name}.mp4", videos.pictures(3))
    draw, calls = Products.frame_overlay, []

    def scarce(self, found):
        calls.append(found)
        if len(calls) == 2:
            raise MemoryError
        return draw(self, found)

    monkeypatch.setattr(Products, "frame_overlay", scarce)
    assert run(tmp_path / "*.mp4") == 1
    assert "a.mp4: not enough memory for it" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b.mp4", "b_classes.mov", "predict.json"]
