"""Files of flags over recipes, the command line over files, and what the log says of it."""

import logging

import pytest

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import AUTO, TrainConfig, validate
from deeplab_fast.config.recipes import recipe_names
from deeplab_fast.errors import UserError


@pytest.fixture
def parse(tmp_path, monkeypatch, caplog):
    """Parse in ``tmp_path``; returns the flags and what the log says."""
    monkeypatch.chdir(tmp_path)

    def one(*argv):
        caplog.clear()
        with caplog.at_level(logging.INFO, "deeplab_fast"):
            return parse_flags(TrainConfig, argv, "x", ""), caplog.messages

    return one


def test_flags_win_over_files_and_later_files_over_earlier_ones(parse, tmp_path):
    (tmp_path / "first.yaml").write_text("base_lr: 1\nbatch_size: 1\ncrop_size: 65\nseed: 1\n")
    (tmp_path / "my second.yaml").write_text("batch-size: 2\ncrop_size: 97\n")
    flags, said = parse("--config=first.yaml", "--crop_size=129", "--config=my second.yaml")
    assert flags == {"base_lr": 1.0, "batch_size": 2, "crop_size": 129, "seed": 1}
    assert said == [
        "flags of --config=first.yaml: base_lr=1.0",
        "flags of --config=my second.yaml: batch_size=2",
        "flags of the command line: crop_size=129",
    ]
    assert parse("--config=my second.yaml", "--config=first.yaml")[0]["batch_size"] == 1


def test_without_a_file_the_command_line_speaks_for_itself(parse):
    assert parse("--batch_size=2") == ({"batch_size": 2}, [])


def test_a_default_that_wins_over_a_file_is_said(parse, tmp_path):
    (tmp_path / "run.yaml").write_text("batch_size: auto\nclass_weights: [1, 2]\n")
    said = parse("--config=run.yaml", "--batch_size=32")[1]
    assert said == ["flags of --config=run.yaml: class_weights=1.0,2.0", "flags of the command line: batch_size=32"]
    assert parse("--config=run.yaml")[1] == ["flags of --config=run.yaml: batch_size=auto class_weights=1.0,2.0"]


def test_a_recipe_is_found_by_its_name_from_any_folder(parse, tmp_path):
    flags, said = parse("--config=own_data", "--train_epochs=7")
    assert (flags["data_root"], flags["train_epochs"]) == ("mine", 7)
    assert said[0].startswith("flags of --config=own_data: ")
    (tmp_path / "own_data").mkdir()  # where the data may well be
    assert parse("--config=own_data")[0]["data_root"] == "mine"


def test_a_file_of_a_recipes_name_is_the_file(parse, tmp_path):
    (tmp_path / "own_data").write_text("seed: 5\n")
    assert parse("--config=own_data")[0] == {"seed": 5}


@pytest.mark.parametrize("name", ["own_dat", "recipes/own_data.yml", "own_data.yaml"])
def test_what_is_neither_file_nor_recipe_names_the_recipes(name, parse):
    with pytest.raises(UserError) as caught:
        parse(f"--config={name}")
    assert str(caught.value) == (
        f"--config={name}: No such file or directory; expected a YAML file of flags, or a recipe:"
        f" {', '.join(recipe_names())}"
    )


@pytest.mark.parametrize("name", ["", ".", "a" * 5000])
def test_what_can_be_no_file_is_one_line(name, parse):
    with pytest.raises(UserError, match=r"^--config=.*; expected a YAML file of flags"):
        parse(f"--config={name}")


def test_a_mistake_names_the_file_that_it_is_in(parse, tmp_path):
    (tmp_path / "mine.yaml").write_text("batch_size: none\n")
    with pytest.raises(
        UserError, match=r"^--config=mine\.yaml: --batch_size: 'none': expected a whole number or auto$"
    ):
        parse("--config=own_data", "--config=mine.yaml")


@pytest.mark.parametrize("word", ["auto", "AUTO"])
def test_a_size_may_be_auto(word, parse):
    flags = parse(f"--crop_size={word}", f"--batch_size={word}")[0]
    assert flags == {"crop_size": AUTO, "batch_size": AUTO}
    validate(TrainConfig(**flags))


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--crop_size=16", "--crop_size=16: expected at least 17, or auto"),
        ("--crop_size=0", "--crop_size=0: expected at least 17, or auto"),
        ("--batch_size=0", "--batch_size=0: expected at least 1, or auto"),
        ("--crop_size=4098", "--crop_size=4098: expected at most 4097, or auto"),
        ("--batch_size=-2", "--batch_size=-2: expected at least 1, or auto"),
    ],
)
def test_a_size_that_is_neither_within_its_limits_nor_auto(flag, words, parse):
    with pytest.raises(UserError) as caught:
        validate(TrainConfig(**parse(flag)[0]))
    assert str(caught.value) == words


def test_the_number_that_stands_for_auto_is_no_word_for_it(parse):
    with pytest.raises(UserError, match=r"--crop_size: '-1': expected a whole number or auto$"):
        parse("--crop_size=-1")


def test_a_number_without_auto_has_none(parse):
    with pytest.raises(UserError, match=r"--train_epochs: 'auto': expected a whole number$"):
        parse("--train_epochs=auto")
