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
PRESET = "--preset NAME takes published settings (sartor list presets), which all others override."
TRAINING = "--training paper|strong takes the training options of that name, which override a preset."
RULE = re.compile(r"[-─│|+ ]+")


def parse_options(
    kind: type[C],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    recipe: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> C:
    """Parse flags into the dataclass `kind`: they override `--config FILE.yaml`, this `--training NAME` (which the file
    may name too), and this `--preset NAME`. Presets and trainings are known where a `recipe` is named; presets must be
    for it. `defaults` are options that all others override.

    Raises: ConfigError: one line, with the nearest flag suggested; SystemExit: after `--help`.
    """
    rest, config = take_option(arguments, "--config", "file")
    given = [] if config is None else as_flags(read_yaml(Path(config)))
    words = [description, COMMON]
    if recipe is not None:
        from sartor.recipes.presets import PRESETS
        from sartor.recipes.training import training_options

        rest, preset = take_option(rest, "--preset", "name")
        given, in_file = take_option(given, "--training", "name")
        rest, training = take_option(rest, "--training", "name")
        name = in_file if training is None else training
        published = {} if preset is None else PRESETS.values(preset, recipe)
        given = as_flags(published | ({} if name is None else training_options(name))) + given
        words += [PRESET, TRAINING]
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                kind, args=[*as_flags(defaults or {}), *given, *rest], prog=prog, description="\n\n".join(words)
            )
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


def take_option(arguments: Sequence[str], flag: str, kind: str) -> tuple[list[str], str | None]:
    """Take `--flag VALUE` or `--flag=VALUE` out of the arguments; `kind` says what the value is.

    Raises: ConfigError: where there is no value, or more than one.
    """
    rest: list[str] = []
    found: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == flag:
            following = next(words, None)
            if following is None:
                raise ConfigError(f"{flag} needs a {kind}; write {flag} {kind.upper()}.")
            found.append(following)
        elif word.startswith(f"{flag}="):
            found.append(word.partition("=")[2])
        else:
            rest.append(word)
    if len(found) > 1:
        raise ConfigError(f"{flag} is given {len(found)} times; give it once.")
    return rest, found[0] if found else None


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
