"""Names for methods: `SELECTORS.build("moderate(center='mean')")` finds, checks and makes one."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sartor.errors import ConfigError, check_kind, nearest

Entry = TypeVar("Entry", bound=Callable[..., Any])
_WORDS = {"true": True, "false": False, "none": None}
_SPEC = re.compile(r"^\s*([A-Za-z0-9_.:+\-]+)\s*(?:\((.*)\))?\s*$", re.DOTALL)


class Registry:
    """A table from names to classes or factories of one kind.

    The modules of `package` are imported at the first look-up, so a method is added by one file with one decorator.
    Other distributions add theirs through the entry point group `sartor.<kind>s`; `package.module:name` always works.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Callable[..., Any]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorate a class or a factory to make it known as `name`."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ConfigError(f"there is already a {self.kind} called {name!r}; choose another name.")
            self._entries[name] = entry
            return entry

        return add

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
        if ":" in name:
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
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
        for option, value in options.items():
            if option not in parameters:
                known = ", ".join(p for p in parameters if p not in given) or "no options"
                hint = nearest(option, parameters)
                raise ConfigError(f"{self.kind} {name!r} has no option {option!r}; it takes: {known}.{hint}")
            check_kind(f"{option} of {self.kind} {name!r}", value, parameters[option].default)

    def describe(self, name: str) -> str:
        """Return the first line of the entry's docstring."""
        text = inspect.getdoc(self[name]) or ""
        return text.splitlines()[0] if text else ""

    def options(self, name: str) -> dict[str, Any]:
        """Return the entry's options with their defaults (`inspect.Parameter.empty` where there is none)."""
        return {p.name: p.default for p in inspect.signature(self[name]).parameters.values()}

    def _import(self, path: str) -> Callable[..., Any]:
        module, _, attribute = path.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            cure = "give it as package.module:name, importable from the current folder or the environment"
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
        for point in importlib.metadata.entry_points(group=f"sartor.{self.kind}s"):
            self.register(point.name)(point.load())


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `"name(option=value, ...)"` into the name and its options; values are Python literals or bare words.

    >>> parse("rigl(sparsity=0.9, distribution=erk)")
    ('rigl', {'sparsity': 0.9, 'distribution': 'erk'})
    """
    match = _SPEC.match(spec)
    if match is None:
        raise ConfigError(f"{spec!r} is not of the form name or name(option=value, ...).")
    name, inside = match.groups()
    try:
        call = ast.parse(f"f({inside or ''})", mode="eval").body
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
