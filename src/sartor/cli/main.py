"""The command line: `sartor COMMAND ...`, one module a command, errors as one line."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from sartor.errors import ConfigError, SartorError, Stopped, nearest
from sartor.version import __version__

COMMANDS = {
    "train": "train one network with a recipe (sartor train swast --data digits --out runs/a)",
    "compare": "run a recipe beside its controls, over seeds and noise levels, then report",
    "report": "make tables, figures and one HTML page from run folders",
    "list": "list selectors, samplers, pruners, models, data sets and recipes",
}
DONE, WRONG_INPUT, RESUMABLE = 0, 2, 75


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 when done, 2 for wrong input, 75 when stopped and resumable."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if "" not in sys.path:
        sys.path.insert(0, "")  # so that package.module:name finds modules of the current folder, as python -m does
    warnings.showwarning = lambda message, *_, **__: print(f"sartor: note: {message}", file=sys.stderr)
    try:
        return dispatch(arguments)
    except Stopped as stop:
        print(f"\nsartor: {stop} Give the same command again to go on.", file=sys.stderr)
        return RESUMABLE
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("\nsartor: interrupted. Give the same command again to go on.", file=sys.stderr)
        return RESUMABLE
    except SartorError as error:
        if debug:
            raise
        print(f"sartor: {error}", file=sys.stderr)
        return WRONG_INPUT


def dispatch(arguments: list[str]) -> int:
    """Find the command and run it."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return DONE
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        print(f"sartor {__version__}")
        return DONE
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ConfigError(f"there is no command {name!r}; known: {known}.{nearest(name, COMMANDS)}")
    return importlib.import_module(f"sartor.cli.{name}").run(rest)


def usage() -> str:
    """Return the text of `sartor --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sartor COMMAND [OPTIONS]",
            "",
            "Tailor a network and its training set together: fewer weights, fewer samples, every cost counted.",
            "",
            *lines,
            "",
            "sartor COMMAND --help tells a command's options; --debug shows the trace of an error.",
        ]
    )
