"""Names for methods: `SELECTORS.build("moderate(center='mean')")` finds, checks and makes one."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sartor.errors import ConfigError, check_kind, nearest

Entry = TypeVar("Entry", bound=Callable[..., Any])
_WORDS = {"true": True, "false": False, "none": None}
_BARE = re.compile(r"""'[^']*'|"[^"]*"|=\s*(?P<word>[A-Za-z_][A-Za-z0-9_.+-]*)(?=\s*(?:,|$))""")
_SPEC = re.compile(r"^\s*([A-Za-z0-9_.:+/\-]+)\s*(?:\((.*)\))?\s*$", re.DOTALL)


class Registry:
    """A table from names to classes or factories of one kind.

    The modules of `package` are imported at the first look-up, so a method is added by one file with one decorator.
    Other distributions add theirs through the entry point group `sartor.<plural>`; `package.module:name` and
    `folder/file.py:name` always work. A prefix, such as `timm` in `timm:resnet18`, stands for a whole family.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Callable[..., Any]] = {}
        self._prefixes: dict[str, Callable[..., Any]] = {}
        self._loaded = False

    @property
    def plural(self) -> str:
        """What several of its kind are called."""
        return f"{self.kind[:-1]}ies" if self.kind.endswith("y") else f"{self.kind}s"

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorate a class or a factory to make it known as `name`."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ConfigError(f"there is already a {self.kind} called {name!r}; choose another name.")
            self._entries[name] = entry
            return entry

        return add

    def register_prefix(self, prefix: str) -> Callable[[Entry], Entry]:
        """Decorate a factory to make it known as `prefix:NAME`; it gets NAME as its first argument."""

        def add(entry: Entry) -> Entry:
            if prefix in self._prefixes:
                raise ConfigError(f"there is already a {self.kind} prefix {prefix!r}; choose another one.")
            self._prefixes[prefix] = entry
            return entry

        return add

    @property
    def families(self) -> dict[str, str]:
        """What prefixes stand for: `prefix:NAME` and the first line of its factory's docstring."""
        self._load()
        return {f"{prefix}:NAME": _first_line(self._prefixes[prefix]) for prefix in sorted(self._prefixes)}

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __getitem__(self, name: str) -> Callable[..., Any]:
        self._load()
        if name in self._entries:
            return self._entries[name]
        prefix, colon, rest = name.partition(":")
        if prefix in self._prefixes and colon:
            return functools.partial(self._prefixes[prefix], rest)
        if colon:
            return self._import(name)
        hint = nearest(name, self._entries)
        raise ConfigError(f"there is no {self.kind} called {name!r}; known: {', '.join(self)}.{hint}")

    def build(self, spec: str, **given: Any) -> Any:
        """Make the entry that `spec` names, such as `"rigl(sparsity=0.9)"`.

        `given` are arguments of the program (classes, input_shape); options written in `spec` come on top.
        Raises: ConfigError: for an unknown name or option (nearest one suggested) or a value that is no literal.
        """
        name, options = parse(spec)
        entry = self[name]
        self._check(name, entry, options, given)
        try:
            return entry(**{**given, **options})
        except TypeError as error:
            raise ConfigError(f"{self.kind} {name!r} cannot be made from {spec!r}: {error}.") from error

    def _check(self, name: str, entry: Callable[..., Any], options: dict[str, Any], given: dict[str, Any]) -> None:
        """Refuse options that the entry does not have, or of another kind than their default."""
        try:
            parameters = inspect.signature(entry).parameters
        except ValueError:  # some built-in functions do not tell
            return
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for option, value in options.items():
            if option not in parameters and takes_any:
                continue
            if option not in parameters:
                known = ", ".join(p for p in parameters if p not in given) or "no options"
                hint = nearest(option, parameters)
                raise ConfigError(f"{self.kind} {name!r} has no option {option!r}; it takes: {known}.{hint}")
            check_kind(f"{option} of {self.kind} {name!r}", value, parameters[option].default)

    def describe(self, name: str) -> str:
        """Return the first line of the entry's docstring."""
        return _first_line(self[name])

    def options(self, name: str) -> dict[str, Any]:
        """Return the entry's options with their defaults (`inspect.Parameter.empty` where there is none)."""
        return {p.name: p.default for p in inspect.signature(self[name]).parameters.values()}

    def _import(self, path: str) -> Callable[..., Any]:
        module, _, attribute = path.rpartition(":")
        try:
            found = getattr(_module(module), attribute)
        except (ImportError, AttributeError, OSError) as error:
            cure = "give it as file.py:name, or package.module:name, importable from the current folder or environment"
            raise ConfigError(f"{self.kind} {path!r} cannot be imported ({error}); {cure}.") from error
        if not callable(found):
            raise ConfigError(f"{self.kind} {path!r} is {type(found).__name__}; it must be a class or a function.")
        return found

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in importlib.metadata.entry_points(group=f"sartor.{self.plural}"):
            self.register(point.name)(point.load())


def _module(name: str) -> ModuleType:
    """Import a module by its name, or a file by its path; a file is run once, and known by its full path."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    place = str(Path(name).resolve())
    if place not in sys.modules:
        spec = importlib.util.spec_from_file_location(place, place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[place] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[place]
            raise
    return sys.modules[place]


def _first_line(entry: Callable[..., Any]) -> str:
    entry = entry.func if isinstance(entry, functools.partial) else entry
    text = inspect.getdoc(entry) or ""
    return text.splitlines()[0] if text else ""


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `"name(option=value, ...)"` into the name and its options; values are Python literals or bare words.

    >>> parse("gradmatch(per=class-gradient, ridge=0.5)")
    ('gradmatch', {'per': 'class-gradient', 'ridge': 0.5})
    """
    match = _SPEC.match(spec)
    if match is None:
        raise ConfigError(f"{spec!r} is not of the form name or name(option=value, ...).")
    name, inside = match.groups()
    try:
        call = ast.parse(f"f({_BARE.sub(_quoted, inside or '')})", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            raise ValueError("more than one pair of brackets")
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ConfigError(f"{spec!r} has an option without a name; write name(option=value, ...).")
        names = [str(keyword.arg) for keyword in call.keywords]
        if len(set(names)) < len(names):
            raise ConfigError(f"{spec!r} gives an option twice; give it once.")
        return name, {option: _literal(keyword.value) for option, keyword in zip(names, call.keywords, strict=True)}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{spec!r} cannot be read; write name(option=value, ...) with plain values.") from error


def _quoted(found: re.Match[str]) -> str:
    """Put quotes around a bare word, which may be one of Python's own, such as `class`; leave quoted text alone."""
    word = found["word"]
    return found[0] if word is None or word.lower() in _WORDS else f"={word!r}"


def _literal(node: ast.expr) -> Any:
    """Read a Python literal; a bare word is text, but for true, false and none."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    return ast.literal_eval(node)


SELECTORS = Registry("selector", "sartor.select")
SAMPLERS = Registry("sampler", "sartor.select")
PRUNERS = Registry("pruner", "sartor.prune")
MODELS = Registry("model", "sartor.models")
DATASETS = Registry("dataset", "sartor.data")
RECIPES = Registry("recipe", "sartor.recipes")
STUDIES = Registry("study", "sartor.studies")
