"""Small videos, written and read by PyAV."""

import io
from fractions import Fraction

import av
import numpy as np
import scipy.ndimage
import torch
from PIL import Image

NTSC = Fraction(30000, 1001)


def pictures(count, height=48, width=64, seed=0):
    """Smooth noise that moves, ``count`` times uint8 ``[H, W, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(1, 3, 6, 8 + count // 4, generator=generator)
    wide = torch.nn.functional.interpolate(cells, (height, width + 2 * count), mode="bicubic").clamp(0, 1)
    whole = (255 * wide[0]).permute(1, 2, 0).numpy().astype(np.uint8)
    return [np.ascontiguousarray(whole[:, 2 * i : 2 * i + width]) for i in range(count)]


def write_video(
    path, images, *, pts=None, time_base=1 / NTSC, rate=NTSC, codec="libx264", pix_fmt="yuv420p", matrix=None,
    aspect=None, audio=None, begin=0, muxer_options=None, format=None, colorspace=None,
):  # fmt: skip
    """Write a video; ``pts`` in units of ``time_base``, ``matrix`` as FFmpeg's, ``audio``: a codec's name.

    Time stamps begin at ``begin`` seconds.
    """
    with av.open(str(path), "w", format=format, options=muxer_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = stream.time_base = Fraction(time_base)
        if codec == "libx264":
            stream.options = {"crf": "10", "preset": "ultrafast", "bf": "2"}
        if matrix:
            stream.set_display_matrix(matrix)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if colorspace:
            stream.codec_context.colorspace = colorspace
        sound = container.add_stream(audio, rate=44100) if audio else None
        if sound:
            encode_sound(container, sound, len(images) / rate, begin)
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
            frame.pts = (i if pts is None else pts[i]) + round(begin / time_base)
            frame.time_base = Fraction(time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def encode_sound(container, stream, seconds, begin):
    """Write a tone into an audio stream, and end it."""
    tone = np.sin(np.arange(int(44100 * seconds)) / 20).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 44100, 44100 * begin, Fraction(1, 44100)
    resampler = av.AudioResampler(
        stream.codec_context.format, stream.codec_context.layout, 44100, stream.codec_context.frame_size or 1024
    )
    for given in (frame, None):
        for part in resampler.resample(given):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def read_video(path):
    """Times in seconds and pictures ``[H, W, 3]`` of all frames, as stored."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.pts * frame.time_base for frame in frames], [f.to_ndarray(format="rgb24") for f in frames]


def read_masks(path):
    """Times in seconds and classes ``[H, W]`` of the palette PNGs in a video, by Pillow."""
    times, masks = [], []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                mask = Image.open(io.BytesIO(bytes(packet)))
                assert mask.mode == "P"
                times.append(packet.pts * packet.time_base)
                masks.append(np.asarray(mask))
    return times, masks


def read_packets(path, kind):
    """Time in seconds and content of each packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


def inside(mask):
    """Tell which pixels have no other class within three pixels: chroma, stored for two by two, is theirs alone."""
    return scipy.ndimage.maximum_filter(mask, 7) == scipy.ndimage.minimum_filter(mask, 7)


def psnr(one, other):
    """Peak signal to noise ratio of uint8 arrays of any shape, in dB."""
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))
