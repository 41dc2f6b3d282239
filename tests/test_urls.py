"""URLs of flags: told from paths, and named without what may be secret."""

from dataclasses import dataclass

import pytest

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import TrainConfig
from deeplab_fast.config.origins import describe_origins
from deeplab_fast.config.urls import is_url, public, public_fields
from deeplab_fast.errors import UserError
from tests.fuzz.bounds import measured

SECRET = "https://me:hush@h.org:8080/d/voc-{0..3}.tar?sig=hush#hush"
PUBLIC = "https://h.org:8080/d/voc-{0..3}.tar"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET, PUBLIC),
        (f"{SECRET} and s3://key@bucket/a@2/b.tar", f"{PUBLIC} and s3://bucket/a@2/b.tar"),
        ("https://me:hu/sh@h/d.tar", "https://h/d.tar"),
        ("https://me:hu?sh@h/d.tar", "https://h/d.tar"),
        ("https://me:hu#sh/d.tar", "https://"),
        ("https://h:8080/d?hush", "https://h:8080/d"),
        ("http://[::1]:80/d", "http://[::1]:80/d"),
        ("file:///a b", "file:///a b"),
        ("C:\\voc?.tar", "C:\\voc?.tar"),
        ("data/voc-[0-9]?.tar", "data/voc-[0-9]?.tar"),
        ("", ""),
    ],
)
def test_public(text, expected):
    assert public(text) == expected
    assert public(expected) == expected


@pytest.mark.parametrize("word", ["a" * 300_000, "a-" * 150_000, "a:" * 150_000, "https://" * 40_000, "a@" * 150_000])
def test_a_long_word_takes_no_long_time(word):
    """Errors name what a file holds."""
    with measured() as used:
        public(word)
        public(f"https://{word}")
    assert used.seconds < 5


def test_what_is_a_url():
    assert [is_url(text) for text in (SECRET, "s3://b/k", "ftp://h/", "C:\\d", "a/b://c", "", "voc.tar")] == [
        *(True, True, True, False, False, False, False)
    ]


def test_fields_are_kept_without_secrets():
    @dataclass(frozen=True)
    class Flags:
        data_file: str = SECRET
        seed: int = 1
        mean: tuple[float, ...] = (1.0, 2.0)

    assert public_fields(Flags()) == {"data_file": PUBLIC, "seed": 1, "mean": (1.0, 2.0)}


def test_errors_and_the_log_of_flags_name_no_secret():
    with pytest.raises(UserError) as caught:
        parse_flags(TrainConfig, [SECRET], "deeplab_fast.train", "")
    assert str(caught.value).startswith(f"{PUBLIC}")
    with pytest.raises(UserError) as caught:
        parse_flags(TrainConfig, [f"--seed={SECRET}"], "deeplab_fast.train", "")
    assert "hush" not in str(caught.value)
    assert describe_origins(TrainConfig, [("run.yaml", {"data_file": SECRET})]) == [
        f"flags of run.yaml: data_file={PUBLIC}"
    ]
