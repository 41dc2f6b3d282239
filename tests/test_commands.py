"""Every command and flag in the documents is one that the programs' own parsers take."""

import ast
import importlib
import json
import re
import tomllib

import pytest
import yaml
from torch.distributed.run import get_args_parser

from deeplab_fast import prepare
from deeplab_fast.cli import parse_flags
from deeplab_fast.config import TrainConfig, validate, validate_train
from deeplab_fast.errors import UserError
from tests.documents import DOCUMENTS, ROOT, Command, block_commands, blocks, span_commands, span_flags

FLAGS = json.loads((ROOT / "tests/compatibility/files/interface.json").read_text())["flags"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Every program's, torchrun's and the tests'.
FOREIGN = {"--help", "--nproc-per-node", "--max-restarts", "--all-faults"}
# Programs of the tree without flags of ours: their words are not looked at.
WITHOUT_FLAGS = {"benchmarks.readme", "benchmarks.run curves", "tests.compatibility.make_files"}
FIELD = re.compile(r"^    (\w+): .* = flag\(", re.MULTILINE)  # of a dataclass of flags
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


class Parsed(Exception):
    """The program has understood its flags; what it would do is not done."""


def parse_only(config_class, argv, *texts):
    """Parse flags as the command line does, with the limits of each and, of a training, of all together."""
    config = config_class(**parse_flags(config_class, argv, *texts))
    validate(config)
    if config_class is TrainConfig:
        validate_train(config)
    raise Parsed


@pytest.fixture(autouse=True)
def parsing(monkeypatch, tmp_path):
    """Let every program end where it has parsed its flags, in a folder with the files of flags that documents name."""
    modules = [f"deeplab_fast.{name}" for name in ("train", "eval", "predict", "export")]
    modules += [f"deeplab_fast.prepare.{name}" for name in prepare.COMMANDS]
    modules += ["deeplab_fast.report.__main__", "deeplab_fast.compare.command"]
    modules += ["benchmarks.report", "benchmarks.evaluation"]
    for module in modules:
        monkeypatch.setattr(f"{module}.parse_flags", parse_only)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for name in ("mine.yaml", "run.yaml"):
        (tmp_path / name).write_text("log_steps: 5\n")
    monkeypatch.chdir(tmp_path)


def program_of(module):
    """Import what ``python -m`` runs."""
    is_file = (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()
    return importlib.import_module(module if is_file else f"{module}.__main__")


def parse_module(module, arguments):
    """Parse the words behind ``python -m``."""
    if module == "benchmarks.run" and arguments:
        module, arguments = f"benchmarks.{arguments[0]}", arguments[1:]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    if module in WITHOUT_FLAGS or module.replace("benchmarks.", "benchmarks.run ") in WITHOUT_FLAGS:
        return
    if module == "deeplab_fast.runtime":
        assert not arguments
        return
    with pytest.raises(Parsed):
        program_of(module).main(arguments)


def check_python(words):
    if words[0] == "-m":
        parse_module(words[1], list(words[2:]))
    elif words[0] == "-c":
        ast.parse(words[1])
    else:
        assert (ROOT / words[0]).is_file()


def check_make(words):
    folder = ROOT / words[words.index("-C") + 1] if "-C" in words else ROOT
    targets = set(re.findall(r"^([\w-]+):", (folder / "Makefile").read_text(), re.MULTILINE))
    asked = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
    assert asked
    assert set(asked) <= targets


def check_torchrun(words):
    options = get_args_parser().parse_args([*words, "program"] if "-m" not in words else words)
    if options.module:
        parse_module(options.training_script, options.training_script_args)


def check_pip(words):
    for target in (word for word in words[1:] if word != "--no-deps"):
        extras = re.findall(r"\[([\w,]+)\]", target)
        assert target in (".", "-e", "torchvision") or extras, target
        assert {name for found in extras for name in found.split(",")} <= set(EXTRAS)


def check_bash(words):
    (parts,) = re.findall(r"^  ([\w |]+)\) ;;$", (ROOT / words[0]).read_text(), re.MULTILINE)
    assert set(words[1:2]) <= set(parts.split(" | "))


def check_pytest(words):
    assert all((ROOT / word).exists() for word in words if "/" in word)


def check_nox(words):
    """Each version that a session's name has, and each tag, is one of those that noxfile.py writes out."""
    text = (ROOT / "noxfile.py").read_text()
    name = words[1].partition("(")[0]
    assert words[0] == "--tags" or f"\ndef {name}(session: " in text
    assert re.search(r'tags=\[f"py\{python\}"\]', text)
    assert all(f'"{python}"' in text for python in re.findall(r"py([\d.]+)", words[1]))


def accept(words):
    """Another project's program."""


CHECKS = {
    "python": check_python,
    "make": check_make,
    "torchrun": check_torchrun,
    "pip": check_pip,
    "bash": check_bash,
    "pytest": check_pytest,
    "nox": check_nox,
    "apt": accept,
    "brew": accept,
    "pre-commit": accept,
}


def check(command: Command) -> None:
    """Check a command's words; a capital letter alone is a number, ``...`` at the end and what is before ``=`` go."""
    words = [re.sub(r"=[A-Z]$", "=1", word) for word in command.words if word != "..."]
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    program = words[0].removeprefix(".venv/bin/")
    assert program in CHECKS, f"{program}: say in CHECKS how its commands are checked"
    CHECKS[program](words[1:])


@each_document
def test_commands_in_blocks_parse(document):
    for command in block_commands(document):
        try:
            check(command)
        except (UserError, AssertionError) as error:
            pytest.fail(f"{command.document}, {command.section}: {' '.join(command.words)}: {error}")


def without_bare_flags(command: Command) -> Command:
    """Take the flags without a value out of a sentence's command, once they are known to exist."""
    bare = [word for word in command.words if word.startswith("--") and "=" not in word]
    known = {flag for flags in FLAGS.values() for flag in flags}
    if "deeplab_fast" in " ".join(command.words):
        assert {flag.removeprefix("--") for flag in bare} - {flag[2:] for flag in FOREIGN} <= known
        return command._replace(words=tuple(word for word in command.words if word not in bare))
    return command


@each_document
def test_commands_in_sentences_parse(document):
    for command in span_commands(document):
        if any(re.search("<.*>", word) for word in command.words):
            continue  # a place for a name
        try:
            check(without_bare_flags(command))
        except (UserError, AssertionError) as error:
            pytest.fail(f"{command.document}, {command.section}: {' '.join(command.words)}: {error}")


def takes(program: str, flag: str) -> bool:
    """Tell whether a program takes a flag with its value; what another flag would have to be is not looked at."""
    name, *rest = program.split()
    try:
        program_of(f"deeplab_fast.{name}").main([*rest, flag])
    except Parsed:
        return True
    except UserError as error:
        return flag.split("=")[0] not in str(error)
    raise AssertionError(f"{program} went on")


@each_document
def test_flags_in_sentences_are_taken(document):
    of_benchmarks = {flag for path in ROOT.glob("benchmarks/*.py") for flag in FIELD.findall(path.read_text())}
    for word in sorted(span_flags(document)):
        name, _, value = word.partition("=")
        if name in FOREIGN:
            continue
        flag = name[2:].replace("-", "_")
        programs = [program for program, flags in FLAGS.items() if flag in flags]
        assert programs or flag in of_benchmarks, f"{document.name}: {name} is no flag"
        if programs and value not in ("", "..."):
            word = re.sub(r"=[A-Z]$", "=1", word)
            assert any(takes(program, word) for program in programs), f"{document.name}: {word}: no program takes it"


@each_document
def test_blocks_of_python_and_yaml_are_valid(document):
    for block in blocks(document):
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "yaml":
            assert yaml.safe_load(block.text)
        else:
            assert block.language in ("", "text"), f"{block.document}, {block.section}: {block.language}"
