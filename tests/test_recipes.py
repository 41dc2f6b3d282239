"""Each recipe says what it is, has the flags of its commands, and trains."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from deeplab_fast import prepare, train
from deeplab_fast.cli import parse_flags
from deeplab_fast.config import AUTO, TrainConfig, validate_train
from deeplab_fast.config.recipes import recipe_names
from deeplab_fast.training import fit
from tests.faults.tiny import make_tiny
from tests.trials.samples import write_samples

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "recipes").glob("*.yaml"))
LINE = re.compile(r"-m deeplab_fast\.(prepare +\w+|\w+)([^\n]*)")

each_recipe = pytest.mark.parametrize("recipe", FILES, ids=lambda path: path.stem)


def header_of(recipe):
    """The comment that a recipe begins with, without its marks and with whole commands."""
    text = recipe.read_text()
    lines = text.split("\nmodel:")[0].splitlines()
    assert all(line.startswith("# ") for line in lines)
    return "\n".join(line[2:] for line in lines).replace("\\\n", " ")


def commands_in(text):
    """Programs of a text's commands and the arguments of each."""
    return [(" ".join(program.split()), rest.split()) for program, rest in LINE.findall(text)]


def test_the_recipes_are_installed_and_documented():
    assert recipe_names() == [path.stem for path in FILES]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    installed = {path for one in tools["package-data"]["deeplab_fast"] for path in (ROOT / "deeplab_fast").glob(one)}
    assert {path.resolve() for path in FILES} <= installed
    rows = re.findall(r"^\| \[`(\w+)`\]", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE)
    assert sorted(rows) == recipe_names()


@each_recipe
def test_its_header_says_what_it_is(recipe):
    header = header_of(recipe)
    said = re.findall(r"^(\w[\w ]+): ", header, re.MULTILINE)
    assert [one for one in said if one in ("What", "Data", "Run", "Memory and time", "Reached")] == [
        *("What", "Data", "Run", "Memory and time", "Reached"),
    ]
    assert f"Run: python -m deeplab_fast.train --config=recipes/{recipe.name}" in header
    for path in re.findall(r"benchmarks/[\w/.-]+\w", header):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"(?:see|Next:|Before:) (\w+_s\d+\w*)", header):
        assert name in recipe_names()


@each_recipe
def test_the_commands_of_its_header_have_flags_that_exist(recipe):
    known = json.loads((ROOT / "tests/compatibility/files/interface.json").read_text())["flags"]
    commands = commands_in(header_of(recipe))
    assert commands
    for program, arguments in commands:
        assert {one[2:].split("=")[0] for one in arguments} <= set(known[program])


@each_recipe
def test_its_flags_fit_together(recipe):
    config = TrainConfig(**parse_flags(TrainConfig, [f"--config={recipe}"], "x", ""))
    validate_train(config)
    assert config.train_dir == f"runs/{recipe.stem}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the data that the recipes name, where they name it."""
    root = tmp_path_factory.mktemp("recipes")
    write_samples(root / "data")
    (root / "data/val.txt").rename(root / "data/voc_val_lst.txt")
    flags = [f"--data_root={root}/data", f"--data_lst={root}/data/train.txt"]
    for name in ("vocaug", "voctrain"):
        prepare.main(["records", *flags, f"--dst_path={root}/data/{name}.tar"])
    write_samples(root / "mine", classes=2)
    for name in ("train.txt", "val.txt"):
        (root / "mine" / name).unlink()
    (root / "mine/classes.txt").write_text("ground\ntree\n")
    return root


@each_recipe
def test_it_trains(recipe, prepared, monkeypatch, tmp_path):
    monkeypatch.chdir(prepared)
    make_tiny(monkeypatch.setattr)
    monkeypatch.setattr(fit, "write_report", lambda folder, *_, **__: folder / "report")
    own_lists = [arguments for program, arguments in commands_in(header_of(recipe)) if program == "prepare lists"]
    if recipe.stem == "own_data":
        assert prepare.main(["lists", *own_lists[0]]) == 0
    small = ["--backbone=resnet18", "--crop_size=33", "--batch_size=2", "--accumulate_steps=1", "--num_workers=0"]
    run = ["--max_steps=2", f"--train_dir={tmp_path}", "--device_target=CPU", "--precision=fp32", "--ckpt_pre_trained="]
    assert train.main([f"--config={recipe.stem}", *small, *run]) == 0
    stored = json.loads((tmp_path / "config.json").read_text())
    assert (stored["crop_size"], stored["batch_size"]) == (33, 2)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2]
    assert any("miou" in line for line in metrics)


def test_own_data_leaves_its_sizes_to_the_images_and_the_memory():
    flags = parse_flags(TrainConfig, ["--config=own_data"], "x", "")
    assert (flags["crop_size"], flags["batch_size"]) == (AUTO, AUTO)
