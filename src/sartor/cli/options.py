"""From dataclasses to flags and back: parsing with one-line errors, YAML files, and the command that repeats a run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
import yaml

from sartor.errors import ConfigError

C = TypeVar("C")
BOX = "╭╮╰╯│─|+ \t"
COMMON = "--config FILE.yaml reads options from a file, flags override it; --debug shows the trace of an error."
RULE = re.compile(r"[-─│|+ ]+")


def parse_options(kind: type[C], arguments: Sequence[str], *, prog: str, description: str) -> C:
    """Parse flags into the dataclass `kind`; `--config FILE.yaml` gives values that flags override.

    Raises: ConfigError: one line, with the nearest flag suggested; SystemExit: after `--help`.
    """
    rest, config = split_config(list(arguments))
    given = [] if config is None else as_flags(read_yaml(config))
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(kind, args=[*given, *rest], prog=prog, description=f"{description}\n\n{COMMON}")
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(one_line(captured.getvalue(), prog)) from None


def one_line(box: str, prog: str) -> str:
    """Turn the parser's boxed message into one line, whether the box is drawn in lines or in ASCII."""
    kept = []
    for line in box.strip().splitlines()[1:]:  # the first line is the title
        text = line.strip(BOX)
        if text.startswith(("For full helptext", "Argument helptext")):
            break
        if text and not RULE.fullmatch(line.strip()):
            kept.append(text)
    text = " ".join(kept).replace("Perhaps you meant:", "Did you mean:")
    return f"{text.rstrip('.')}. See {prog} --help."


def split_config(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Take `--config FILE` out of the arguments."""
    for index, argument in enumerate(arguments):
        if argument == "--config":
            if index + 1 == len(arguments):
                raise ConfigError("--config needs a file; write --config FILE.yaml.")
            return arguments[:index] + arguments[index + 2 :], Path(arguments[index + 1])
        if argument.startswith("--config="):
            return arguments[:index] + arguments[index + 1 :], Path(argument.partition("=")[2])
    return arguments, None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of options."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name an existing YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML ({' '.join(str(error).split())}).") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; it must hold lines of the form option: value.")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Turn options by name into flags; a list becomes several words, true and false become --x and --no-x."""
    words: list[str] = []
    for key, value in values.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            words += [f"--{name}", str(value)]
    return words


def differing(options: object, *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the options of a dataclass that differ from its defaults."""
    fields = [field for field in dataclasses.fields(options) if field.name not in leave_out]  # type: ignore[arg-type]
    return {f.name: getattr(options, f.name) for f in fields if getattr(options, f.name) != f.default}


def command(program: str, values: Mapping[str, Any]) -> str:
    """Return the shell command with these options."""
    return shlex.join([*program.split(), *as_flags(values)])
