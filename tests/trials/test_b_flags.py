"""Files of flags are bounded, and mean what the command line does."""

from pathlib import Path

import pytest

from deeplab_fast.errors import UserError


def yaml_flags(folder: Path, text: str) -> dict[str, object]:
    from deeplab_fast.cli import parse_flags
    from deeplab_fast.config import TrainConfig

    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return parse_flags(TrainConfig, [f"--config={folder}/c.yaml"], "x", "")


def test_b17_words_are_the_flags_to_read(tmp_path):
    text = "fused: off\nsync_bn: on\nprofile: no\nbase_lr: 1e-3\nresume: true\ndropout:\nbatch_size: 010\n"
    assert yaml_flags(tmp_path, text) == {
        "fused": "off", "sync_bn": True, "profile": False, "base_lr": 0.001, "resume": "True", "batch_size": 10,
    }  # fmt: skip


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcd", "bcde", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "line 2: key b: holds a list within a list"),
        ("base_lr: " + "[" * 10_000, "nested too deeply"),
        ("base_lr: 1\nbase-lr: 2\n", "line 2: key base-lr again; expected each flag once"),
        ("#" * 100_000, "larger than 64 KiB"),
        ("base_lr: .inf", "'.inf': expected a number"),
        ("base_lr: inf", "'inf': expected a finite number"),
        ("class_weights: [1, nan]", "'nan': expected a finite number"),
        ("config: other.yaml", "a file of flags cannot name another"),
    ],
    ids=["aliases", "nesting", "duplicate", "size", "yaml's inf", "inf", "nan in a list", "config"],
)
def test_b17_what_is_no_file_of_flags_is_one_line(text, words, tmp_path):
    with pytest.raises(UserError) as caught:
        yaml_flags(tmp_path, text)
    assert words in str(caught.value)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["inf", "nan", "-inf"])
def test_b17_numbers_are_finite_on_the_command_line_and_in_python(text):
    from deeplab_fast.cli import parse_flags
    from deeplab_fast.config import TrainConfig, validate

    with pytest.raises(UserError, match=r"--base_lr: .*expected a finite number"):
        parse_flags(TrainConfig, [f"--base_lr={text}"], "x", "")
    with pytest.raises(UserError, match=r"--image_mean: .*expected a finite number"):
        parse_flags(TrainConfig, [f"--image_mean={text},1,1"], "x", "")
    with pytest.raises(UserError, match=r"--image_mean=.*expected a finite number"):
        validate(TrainConfig(image_mean=(float(text), 1.0, 1.0)))
