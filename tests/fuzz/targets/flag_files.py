"""Files of flags in YAML: read, then taken as the flags of a training run."""

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import TrainConfig
from deeplab_fast.config.training import validate_train

from .target import Target, plain


def read(data, folder):
    path = folder / "run.yaml"
    path.write_bytes(data)
    validate_train(TrainConfig(**parse_flags(TrainConfig, [f"--config={path}"], "fuzz", "")))


def seeds():
    yield "flags", b"crop_size: 65\nbase-lr: 1e-3\nfused: off\n"
    yield "kinds", b"multi_grid: [1, 2, 4]\nclass_weights:\n- 1.0\n- 2\nfreeze_bn: True\ndropout: null\nseed: '3'\n"
    yield "auto", b"batch_size: auto\ncrop_size: auto\naspp_rates: 6,12,18\nresume: true\nmodel: deeplab_v3_s8\n"
    yield "yaml", b"%YAML 1.1\n---\na: &a [1, *a]\n<<: {b: 2}\n!!str c: |\n  x\n? d\n: !!binary aGk=\n...\n"
    yield "mark", b"\xef\xbb\xbftrain_dir: \xc3\xa9 x\r\nignore_label: 0x0f\r\nimage_mean: [1., 2_0, .3]\r\n"
    yield "nested", b"a: " + b"[" * 200 + b"]" * 200


TARGET = Target("flags", read, seeds, plain, cpu_seconds=4, megabytes=64)
