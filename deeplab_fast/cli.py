"""The way from the command line to a configuration: argparse over the fields of a dataclass.

Flags accept ``-`` and ``_`` alike, every flag is also a key of a YAML file (``--config``, several of them where it is
given again), and a mistake is one line on stderr with exit status 2.
"""

import argparse
import contextlib
import dataclasses
import logging
import math
import os
import signal
import sys
import types
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from .config.flags import AUTO, choices_of
from .config.origins import describe_origins
from .config.other_names import unknown_flag
from .config.recipes import find_flags
from .config.urls import public
from .config.yaml_flags import read_yaml_flags
from .errors import Interrupted, TrainingDiverged, UserError, enough_memory
from .signals import Interruption

logger = logging.getLogger("deeplab_fast")


def run(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Call ``main`` with the arguments and exit: 0, 2 for a user's mistake, 130 for Ctrl-C, 143 for SIGTERM."""
    interruption = Interruption()
    try:
        interruption.listen()  # until here Ctrl-C ended the imports
        warnings.filterwarnings("ignore", message="tqdm:disabling monitor")  # no memory for its thread: a bar may lag
        _log_to_stderr()
        status = _status_of(main)
        interruption.over = True
    except KeyboardInterrupt as error:
        _say("interrupted")
        status = 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)
    interruption.over = True
    _let_go_of(sys.stdout)
    _let_go_of(sys.stderr)
    sys.exit(status)


def _status_of(main: Callable[[list[str]], int | None]) -> int:
    """Call ``main`` and return the exit status; a mistake is said in one line."""
    try:
        with enough_memory("this program", "less to do at once, or a machine with more memory"):
            status = main(sys.argv[1:]) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        return _say(f"error: {error}", 2)
    except TrainingDiverged as error:
        return _say(f"error: {error}", 1)
    except BrokenPipeError:  # the reader of our output has left
        return 0
    except OSError as error:  # a disk or file that fails where nothing better is known to say
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "input or output"
        return _say(f"error: {where}: {error.strerror or error}", 2)


def _say(line: str, status: int = 0) -> int:
    """Print a line to stderr, whose reader may have left; returns ``status``."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
    return status


def _let_go_of(stream: TextIO) -> None:
    """Throw away what cannot be printed, or Python would fail on it once more as it ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _LogFormat(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        return prefix + record.getMessage()


def _log_to_stderr() -> None:
    """Show this package's messages, and no other package's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogFormat())
    logger = logging.getLogger("deeplab_fast")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


class Parser(argparse.ArgumentParser):
    """ArgumentParser that raises :class:`UserError` and treats ``-`` in a flag's name as ``_``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(public(message.removeprefix("argument ")))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; raise :class:`UserError` for an unknown one, with the nearest that there is."""
        found, unknown = self.parse_known_args([_underscored(a) for a in args], namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return found

    def _unknown(self, token: str) -> str:
        if not token.startswith("-"):
            return f"{token}: unexpected; every option is written --name=value"
        return unknown_flag(
            token.split("=")[0], [option for action in self._actions for option in action.option_strings]
        )


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any) -> str:
        return f"usage: {self._prog} [--config FILE.yaml] [--flag=value ...]\n\n"


def _underscored(token: str) -> str:
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def parse_bool(text: str) -> bool:
    """Return what a word such as ``True`` or ``no`` says."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r}: expected True or False")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a finite number")
    return number


def _converter(annotation: Any, auto: bool = False) -> Callable[[str], Any]:
    """Return what turns a flag's text into a value of this type; words are matched to choices in any case.

    ``auto``: a whole number may also be written ``auto``.
    """
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is tuple:
        item = _finite if typing.get_args(annotation)[0] is float else typing.get_args(annotation)[0]

        def convert(text: str) -> Any:
            words = text.strip("[]() ").replace(",", " ").split()
            try:
                return tuple(item(word) for word in words)
            except ValueError:
                raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with commas between them") from None

        return convert
    choices = choices_of(annotation)
    annotation = type(choices[0]) if choices else annotation
    if annotation is bool:
        return parse_bool
    if annotation in (int, float):

        def number(text: str) -> Any:
            if auto and text.lower() == "auto":
                return AUTO
            try:
                value = int(text) if annotation is int else _finite(text)
                if auto and value == AUTO:
                    raise ValueError
                return value
            except ValueError:
                kind = ("a whole number" if annotation is int else "a number") + " or auto" * auto
                raise argparse.ArgumentTypeError(f"{text!r}: expected {kind}") from None

        return number
    spelled = {str(c).lower(): str(c) for c in choices}
    return lambda text: spelled.get(text.lower(), text)


def add_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Add an option for each field, under its class's heading. Options not given are absent from the result."""
    hints = typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}  # with the defaults of this class
    seen: set[str] = set()
    for base in (*reversed(config_class.__mro__[1:]), config_class):
        names = [f.name for f in dataclasses.fields(base)] if dataclasses.is_dataclass(base) else []
        own = [fields[name] for name in names if name not in seen]
        if not own:
            continue
        group = parser.add_argument_group((base.__doc__ or base.__name__).splitlines()[0].rstrip("."))
        for field in own:
            seen.add(field.name)
            hint = hints[field.name]
            extra: dict[str, Any] = {}
            if hint is bool:
                extra = {"nargs": "?", "const": True}
            elif "True" in choices_of(hint):  # a switch with a third position
                extra = {"nargs": "?", "const": "True"}
            group.add_argument(
                f"--{field.name}",
                type=_converter(hint, field.metadata.get("auto", False)),
                default=argparse.SUPPRESS,
                metavar=_metavar(hint) + "|auto" * field.metadata.get("auto", False),
                help=f"{field.metadata['help']}{_default_text(field.default)}".replace("%", "%%"),
                **extra,
            )


def _metavar(hint: Any) -> str:
    if choices := choices_of(hint):
        return "|".join(map(str, choices))
    if isinstance(hint, types.UnionType):
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is tuple:
        return "X,Y,.."
    return {bool: "True|False", int: "N", float: "X", str: "TEXT"}[hint]


def _default_text(value: Any) -> str:
    if value is None or value == "" or value == ():
        return ""
    return f" [{','.join(map(str, value)) if isinstance(value, tuple) else value}]"


def _read_yaml(parser: Parser, path: str) -> dict[str, Any]:
    """Return the values of a YAML file of flags or a recipe, converted and checked exactly as the command line's."""
    tokens = [f"--{name}={text}" for name, text in read_yaml_flags(find_flags(path)).items()]
    try:
        return vars(parser.parse_args(tokens))
    except UserError as error:
        raise UserError(f"--config={path}: {error}") from None


def parse_flags(
    config_class: type, argv: Sequence[str], prog: str, description: str, epilog: str = ""
) -> dict[str, Any]:
    """Return the flags that were given: those of each YAML file over the ones before, the command line's over all.

    Where there are files, the log says what came from which.

    Raises:
        UserError: an unknown flag or key, or a value of the wrong type.
    """
    parser = Parser(prog=f"python -m {prog}", description=description, epilog=epilog)
    help = "YAML file of flags, or a recipe's name. Given again, the later file wins; flags win over files."
    parser.add_argument("--config", metavar="FILE", action="append", default=argparse.SUPPRESS, help=help)
    add_flags(parser, config_class)
    given = vars(parser.parse_args(list(argv)))
    files: list[str] = given.pop("config", [])
    layers = [(f"--config={path}", _read_yaml(parser, path)) for path in files] + [("the command line", given)]
    if files:
        for line in describe_origins(config_class, layers):
            logger.info("%s", line)
    return {name: value for _, values in layers for name, value in values.items()}
