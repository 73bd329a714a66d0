"""The command line: `sartor COMMAND ...`, one module a command, errors as one line."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from sartor.errors import ConfigError, SartorError, Stopped, nearest, show_note
from sartor.memory import shortage
from sartor.signals import interrupt, signals
from sartor.torchrun import speaks
from sartor.version import __version__

COMMANDS = {
    "train": "train one network with a recipe (sartor train swast --data digits --out runs/a)",
    "compare": "run a recipe beside its controls, over seeds and noise levels, then report",
    "report": "make tables, figures and one HTML page from run folders",
    "select": "choose a coreset by a trained network or by arrays, and show it on a page",
    "study": "answer a question with many runs (sartor study selectors --data digits --seeds 3; sartor list studies)",
    "list": "list selectors, samplers, pruners, models, data sets, recipes and studies",
    "data": "fetch a data set from its original address (sartor data get cifar10)",
    "inspect": "tell what is in a data set, what may be wrong with it, and what training on it would cost",
}
DONE, WRONG_INPUT, RESUMABLE = 0, 2, 75


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 when done, 2 for wrong input, 75 when stopped and resumable."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if "" not in sys.path:
        sys.path.insert(0, "")  # so that package.module:name finds modules of the current folder, as python -m does
    warnings.showwarning = show_note
    try:
        with signals(interrupt, signal.SIGTERM):  # a run that is under way saves
            return dispatch(arguments)
    except Stopped as stop:
        tell(stop, f"\nsartor: {stop} Give the same command again to go on.")
        return RESUMABLE
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG_INPUT
    except KeyboardInterrupt:
        if speaks():
            print("\nsartor: interrupted. Give the same command again to go on.", file=sys.stderr)
        return RESUMABLE
    except SartorError as error:
        if debug:
            raise
        tell(error, f"sartor: {error}")
        return WRONG_INPUT
    except (OSError, MemoryError, RuntimeError) as error:
        line = failure(error)
        if debug or line is None:
            raise
        print(f"sartor: {line}", file=sys.stderr)
        return WRONG_INPUT


def failure(error: Exception) -> str | None:
    """Return one line for what the system refuses, files or memory; None for a fault of the program."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}. Mend that, then give the same command again."
    found = shortage(error)
    return None if found is None else f"{found}; lower --batch-size or --jobs, or use a smaller --model."


def tell(error: SartorError, line: str) -> None:
    """Print an error, unless another process of the same training has said it."""
    if not error.told:
        print(line, file=sys.stderr)


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
