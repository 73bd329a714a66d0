"""What DESIGN promises of the code's shape: one way of imports, small files, nothing at import, a stable surface."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import sartor
from sartor.registry import STUDIES

ROOT = Path(sartor.__file__).parent
GOLDEN = Path(__file__).parent / "golden" / "flags.txt"
LEVELS = (
    {
        "errors",
        "version",
        "types",
        "registry",
        "randomness",
        "ranking",
        "files",
        "memory",
        "signals",
        "digest",
        "torchrun",
    },
    {
        "data",
        "models",
        "costs",
        "head",
        "precision",
        "scan",
        "scanning",
        "undisturbed",
        "history",
        "per_sample",
        "seen",
        "stochastic",
        "dist",
        "losses",
        "schedules",
        "costs_paper",
        "curvature",
        "network_view",
        "teacher",
    },
    {"select", "prune", "fuse", "train", "run", "run_folder", "recording"},
    {"recipes"},
    {"comparison", "report", "studies", "repro", "label", "export"},
    {"cli"},
)
"""Parts of the package from the bottom up; each may import its own level and those below."""
APART = ({"select"}, {"prune", "fuse"})
"""Parts of one level that never import each other: only a recipe knows both."""
SEEDED = {"sartor.models.build", "sartor.randomness"}
"""Initial weights and dropout draw from torch's global state: forked, seeded, and given back."""
WITHOUT_TORCH = ("sartor", "sartor.errors", "sartor.registry", "sartor.version", "sartor.files", "sartor.cli.main")
COMMANDS = (
    "train swast",
    "train dense",
    "train prunefuse",
    "train prunefuse-coreset",
    "train lazy-proxy",
    "train active",
    "train drophot",
    "compare",
    "compare prunefuse",
    "compare drophot",
    "report",
    "data get",
    "data list",
    "inspect",
    "select",
    *(f"study {name}" for name in STUDIES),
)


def modules() -> dict[str, Path]:
    """Dotted names of all modules and their files."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("sartor", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


class Imports(ast.NodeVisitor):
    """Collects what a module imports of sartor, leaving out what only a type checker reads."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        typing_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in node.orelse if typing_only else [*node.body, *node.orelse]:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            self.found.add(whole if whole in MODULES else str(node.module))


def imported_by(module: str) -> set[str]:
    """Modules of sartor that a module imports, wherever in it."""
    visitor = Imports()
    visitor.visit(TREES[module])
    return {name for name in visitor.found if name.split(".")[0] == "sartor"}


def part(module: str) -> str:
    """The file or folder of the package that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def level(module: str) -> int:
    """The height of a module; the package's own file lies at the bottom, `python -m sartor` at the top."""
    name = part(module)
    if name in ("", "__main__"):
        return 0 if not name else len(LEVELS)
    for height, names in enumerate(LEVELS):
        if name in names:
            return height
    pytest.fail(f"src/sartor/{name} has no place in LEVELS of {Path(__file__).name}; give it one.")


def every_node() -> Iterator[tuple[str, ast.AST]]:
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            yield module, node


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    for other in sorted(imported_by(module)):
        assert level(other) <= level(module), f"{module} imports {other}, which lies above it"


def test_selectors_and_pruners_do_not_know_each_other() -> None:
    for mine, others in (APART, APART[::-1]):
        for module in MODULES:
            if part(module) in mine:
                assert not {part(name) for name in imported_by(module)} & others, module


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imported_by(name) - {name} for name in MODULES}
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        for other in graph.get(name, ()):
            walk(other, (*trail, name))
        done.add(name)

    for name in graph:
        walk(name, ())
    assert done >= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_files_are_small_and_say_what_they_are(module: str) -> None:
    source, tree = MODULES[module].read_text(encoding="utf-8"), TREES[module]
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(tree), f"{module} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node) or ""
            assert len(text.splitlines()) <= 15, f"the docstring of {node.name} is longer than 15 lines"
    defines = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    assert not defines or "from __future__ import annotations" in source


def test_no_name_says_nothing() -> None:
    vague = re.compile(r"(?i)(^|_)(utils?|helpers?|misc|common)(_|$)|Manager|Helper|Utils?$")
    for module in MODULES:
        assert not any(vague.search(name) for name in module.split(".")), module
    for module, node in every_node():
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            assert not vague.search(node.name), f"{module}: {node.name}"


def test_package_files_only_re_export() -> None:
    for module, path in MODULES.items():
        if path.name != "__init__.py" or module == "sartor":  # the package's own file imports on demand
            continue
        for node in TREES[module].body:
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert text or isinstance(node, ast.Import | ast.ImportFrom), f"{module}: line {node.lineno}"


def test_nothing_draws_from_a_global_generator_or_loads_a_pickle() -> None:
    forbidden = re.compile(
        r"^(torch\.(cuda\.)?manual_seed|np\.random\.|numpy\.random\.|random\.\w+|torch\.seed|pickle\.(?!UnpicklingError))"
    )
    for module, node in every_node():
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), module
        if module not in SEEDED:
            assert not forbidden.match(name), f"{module}: line {node.lineno} calls {name}"


def in_a_fresh_process(program: str) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_the_names_of_things_need_no_torch() -> None:
    program = f"""
import importlib, sys
for name in {WITHOUT_TORCH}:
    importlib.import_module(name)
from sartor.cli.main import main
assert main(["--help"]) == main(["--version"]) == main([]) == 0
try:
    main(["--hepl"])
finally:
    heavy = {{"torch", "numpy", "scipy", "tyro", "yaml", "rich", "sklearn", "matplotlib"}} & set(sys.modules)
    print("heavy:", sorted(heavy))
"""
    assert in_a_fresh_process(program).splitlines()[-1] == "heavy: []"


def test_importing_everything_changes_nothing_outside() -> None:
    names = [name for name in MODULES if name != "sartor.__main__"]
    program = f"""
import importlib, logging, os, random, signal, sys, threading, warnings
import numpy, rich.progress, scipy.stats, torch, tyro
import torch.utils.flop_counter
def state():
    yield "arguments", list(sys.argv)
    yield "environment", dict(os.environ)
    yield "folder", os.getcwd()
    yield "warnings", [list(map(str, warnings.filters)), warnings.showwarning]
    yield "logging", [list(logging.root.handlers), logging.root.level]
    yield "signals", [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield "threads", [threading.active_count(), torch.get_num_threads()]
    yield "random", [random.getstate(), numpy.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()]
    yield "torch", [torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()]
    yield "hooks", [sys.excepthook, sys.displayhook, list(map(str, sys.meta_path))]
before = dict(state())
for name in {names}:
    importlib.import_module(name)
print([name for name, value in state() if value != before[name]])
"""
    assert in_a_fresh_process(program).splitlines()[-1] == "[]"


def test_every_public_name_is_there() -> None:
    assert len(sartor.__all__) == len(set(sartor.__all__))
    assert {"Pool", "Scan", "SWaST", "SELECTORS", "SartorError", "__version__"} <= set(sartor.__all__)
    for name in sartor.__all__:
        assert getattr(sartor, name) is not None
    assert set(dir(sartor)) == set(sartor.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Pol'"):
        sartor.Pol  # noqa: B018
    for package in ("data", "select", "prune", "recipes", "report"):
        importlib.import_module(f"sartor.{package}")


def flags() -> list[str]:
    """Every flag of the commands with its default, as `--help` tells them."""
    from sartor.cli.main import main

    lines = []
    for name in COMMANDS:
        text = io.StringIO()
        wide = mock.patch.dict(os.environ, {"COLUMNS": "300"})
        with wide, contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*name.split(), "--help"])
        for option in re.split(r"\n\W*(?=--[a-z])", text.getvalue())[1:]:
            words = " ".join(option.split())
            default = re.search(r"\(default: (.*?)\)", words)
            lines.append(f"{name} {words.split()[0].rstrip(',')}" + (f" = {default[1]}" if default else ""))
    return sorted(lines)


def test_flags_are_those_that_scripts_rely_on() -> None:
    kept, found = set(GOLDEN.read_text(encoding="utf-8").splitlines()), set(flags())
    assert found == kept, (
        f"flags changed.\n  gone: {sorted(kept - found)}\n  new: {sorted(found - kept)}\n"
        "People's scripts rely on them: take one away, or change what it means, only after a version that warns. "
        "If this is meant, say so in CHANGELOG.md and run: python tests/test_architecture.py > tests/golden/flags.txt"
    )


if __name__ == "__main__":
    print("\n".join(flags()))
