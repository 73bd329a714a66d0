"""What can go wrong, in the user's words: what was found, what is allowed, what to do."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping


class SartorError(Exception):
    """Anything that Sartor refuses or cannot do; its text is one line that names the cure."""

    told = False
    """Whether another process has said it already, so that the command line need not."""


class ConfigError(SartorError):
    """An option, a name or a combination of options that cannot be meant."""


class DataError(SartorError):
    """Data that cannot be read, or that contradicts itself."""


class SelectionError(SartorError):
    """A selection that cannot be made: a missing part of the scan, a k out of reach."""


class PruningError(SartorError):
    """Weights that cannot be pruned as asked."""


class TrainingError(SartorError):
    """Training that went wrong, such as a loss that is not finite."""


class OutOfMemory(TrainingError):
    """More memory was asked for than there is."""


class ResumeError(SartorError):
    """A run folder that cannot be continued by this command."""


class Stopped(SartorError):
    """The run was asked to stop; it saved its state and can be continued."""


def show_note(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line; takes the place of warnings.showwarning in a program."""
    print(f"sartor: note: {message}", file=sys.stderr)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(option: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    names = list(allowed)
    if value not in names:
        hint = nearest(str(value), names)
        raise ConfigError(f"{option} is {value!r}; it must be one of {', '.join(names)}.{hint}")


def check_kind(option: str, value: object, default: object) -> None:
    """Raise ConfigError where an option with a default that is a switch or a number is given something else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        fits, kind = isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, kind = isinstance(value, int) and number, "a whole number"
    elif isinstance(default, float):
        fits, kind = number or not isinstance(value, str | bool | None), "a number"
    else:
        return
    if not fits:
        raise ConfigError(f"{option} is {value!r}; it must be {kind}.")


def check_order(first: str, low: float, then: str, high: float) -> None:
    """Raise ConfigError if what comes first is larger than what follows it."""
    if low > high:
        raise ConfigError(f"{first} is {low:g}, after {then}, {high:g}; let it be the smaller one.")


def check_effects(options: object, needed: Mapping[str, tuple[bool, Iterable[str]]]) -> None:
    """Raise ConfigError for an option that is given although what it works on is absent.

    `needed`: what -> whether it is there, and the options without effect where it is not.
    """
    for what, (there, names) in needed.items():
        given = [name for name in names if getattr(options, name) != getattr(type(options), name)]
        if given and not there:
            raise ConfigError(f"{', '.join(given)}: without effect without {what}; leave it out or give that.")


def check_range(
    option: str,
    value: float,
    low: float,
    high: float,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise ConfigError unless `value` lies between `low` and `high` (each end closed unless said otherwise)."""
    above = value > low if low_open else value >= low
    below = value < high if high_open else value <= high
    if above and below:
        return
    interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    hint = ""
    if high == 1 and 1 < value <= 100:
        share = value / 100 if value >= 2 else value / 10
        hint = f" Did you mean {share:g}?"
    raise ConfigError(f"{option} is {value:g}; it must lie in {interval}.{hint}")
