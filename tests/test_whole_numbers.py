"""Text that is to be a number: environment variables, parts of flags."""

import pytest

from deeplab_fast.config.whole_number import environment_number, whole_number
from deeplab_fast.data.classes import class_numbers
from deeplab_fast.data.remote import places
from deeplab_fast.distributed import World, world_from_environment
from deeplab_fast.errors import UserError

LONG = "1" * 5000  # of which int makes no number


def test_whole_numbers():
    assert [whole_number(text) for text in ("0", "007", "9" * 19, "٣")] == [0, 7, 10**19 - 1, 3]
    assert not [
        text for text in ("", " ", "-1", "+1", "1.", "1_0", "²", "x", "9" * 20, LONG) if whole_number(text) is not None
    ]


def test_numbers_of_the_environment(monkeypatch):
    monkeypatch.delenv("SOME", raising=False)
    assert environment_number("SOME", 3) == 3
    for value, number in (("", 3), (" 5 ", 5), ("0", 0)):
        monkeypatch.setenv("SOME", value)
        assert environment_number("SOME", 3) == number
    for value in ("x", "-1", "1.5", LONG):
        monkeypatch.setenv("SOME", value)
        with pytest.raises(UserError, match=f"^SOME={value}: expected a whole number, at least 0$"):
            environment_number("SOME", 3)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two: expected a whole number, at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected a whole number, at least 1"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2: expected a number below WORLD_SIZE=2"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1: expected a whole number, at least 0"),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "a"}, "LOCAL_RANK=a: expected a whole number, at least 0"),
    ],
)
def test_an_environment_of_no_processes_is_named(variables, words, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert world_from_environment() == World()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"^{words}$"):
        world_from_environment()


def test_numbers_of_many_digits_are_no_class_and_no_shards():
    with pytest.raises(UserError, match="is not a class; expected names, or numbers from 0 to 1"):
        class_numbers(f"0,{LONG}", ["a", "b"], "skip")
    with pytest.raises(UserError, match="is no range; expected such as"):
        list(places._names(f"a-{{0..{LONG}}}.tar", "URL"))
