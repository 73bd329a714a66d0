import importlib.metadata
import inspect
import keyword
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import ConfigError
from sartor.registry import DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS, STUDIES, Registry, parse

ALL = (DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS, STUDIES)
NAMES = st.text("abcdefghij_", min_size=1, max_size=6).filter(lambda name: not keyword.iskeyword(name))
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@dataclass(frozen=True)
class Thing:
    """A thing with options.

    More of it.
    """

    size: int = 1
    shape: str = "round"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry over a package of one module, which counts its imports."""
    package = f"things_{uuid.uuid4().hex}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("imports = []\n")
    (tmp_path / package / "solids.py").write_text(f"import {package}\n{package}.imports.append(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    things = Registry("thing", package)
    things.register("thing")(Thing)
    return things


def test_specs_by_hand() -> None:
    assert parse("rigl") == ("rigl", {})
    assert parse(" rigl ( sparsity = 0.9 , distribution = erk ) ") == ("rigl", {"sparsity": 0.9, "distribution": "erk"})
    assert parse("rigl()") == ("rigl", {})
    assert parse("moderate(center='mean', per_class=True)") == ("moderate", {"center": "mean", "per_class": True})
    assert parse("rigl(sparsity={'backbone': 0.7, 'a)b': .5}, drop=-1e-3)") == (
        "rigl",
        {"sparsity": {"backbone": 0.7, "a)b": 0.5}, "drop": -1e-3},
    )
    assert parse("package.module:make(width=2)") == ("package.module:make", {"width": 2})
    assert parse("wrn-28-10") == ("wrn-28-10", {})


@given(name=NAMES, options=st.dictionaries(NAMES, LITERALS, max_size=4))
def test_a_spec_of_literals_reads_back(name: str, options: dict[str, object]) -> None:
    inside = ", ".join(f"{option}={value!r}" for option, value in options.items())
    assert parse(f"{name}({inside})") == (name, options)


@given(text=st.text("ab(){}[]=,+*:'\"-.1 \n\x00", max_size=14) | st.text(max_size=8))
def test_any_other_text_is_a_config_error_of_one_line(text: str) -> None:
    refused, name = "", ""
    try:
        name, options = parse(text)
        assert isinstance(options, dict)
    except ConfigError as error:
        refused = str(error)
    assert name or len(refused.splitlines()) == 1


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "(a=1)",
        "a(",
        "a(1)",
        "a(b)",
        "a(*b)",
        "a(**b)",
        "a(b=f(1))",
        "a(b=1 c=2)",
        "a(b=1)(c=2)",
        "a(b=1)+c(d=2)",
        "a(b={[]: 1})",
        "a(b=1, b=2)",
        "a b",
        "a(b=__import__('os'))",
    ],
)
def test_what_is_no_spec(spec: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(spec)
    assert repr(spec)[1:-1] in str(caught.value) or repr(spec) in str(caught.value)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False), ("True", True), ("False", False)])
def test_a_switch_is_read_as_one_or_refused(word: str, value: bool) -> None:
    """`per_class=false` must not become a text, which counts as true."""
    refused, found = "", None
    try:
        found = SELECTORS.build(f"moderate(per_class={word})").per_class
    except ConfigError as error:
        refused = str(error)
    assert found is value or "per_class" in refused


def test_options_of_the_spec_come_on_top_of_those_given(registry: Registry) -> None:
    assert registry.build("thing", size=3) == Thing(3)
    assert registry.build("thing(size=2, shape=square)", size=3) == Thing(2, "square")


def test_unknown_names_and_options_name_the_nearest(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"there is no thing called 'thnig'; known: thing\. Did you mean 'thing'\?"):
        registry["thnig"]
    with pytest.raises(ConfigError, match=r"'thing' has no option 'sise'; it takes: size, shape\. Did you mean 'size'"):
        registry.build("thing(sise=2)")
    with pytest.raises(ConfigError, match=r"it takes: shape\."):
        registry.build("thing(colour=red)", size=1)
    with pytest.raises(ConfigError) as caught:
        registry.build("zzzzzz")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("registry", "spec"),
    [
        (SELECTORS, "gradmatch(ridge=big)"),
        (PRUNERS, "rigl(every=often)"),
        (SAMPLERS, "redraw(every=two)"),
        (SAMPLERS, "redraw(every=2.5)"),
        (MODELS, "cnn(width=wide)"),
        (MODELS, "cnn(width=2.5)"),
        (MODELS, "math:sqrt"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_values_of_the_wrong_type_are_config_errors(registry: Registry, spec: str) -> None:
    given = {"classes": 10, "input_shape": (1, 8, 8)} if registry is MODELS else {}
    with pytest.raises(ConfigError) as caught:
        registry.build(spec, **given)
    assert len(str(caught.value).splitlines()) == 1


def test_two_entries_cannot_share_a_name(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="already a thing called 'thing'"):
        registry.register("thing")(Thing)
    assert list(registry) == ["thing"]


def test_modules_of_the_package_are_imported_once_and_late(registry: Registry) -> None:
    assert registry.package not in sys.modules
    assert len(registry) == 1
    assert "cube" not in registry
    list(registry), registry["thing"]
    assert sys.modules[registry.package].imports == [1]


def test_anything_importable_can_be_named(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("class Mine:\n    def __init__(self, size=0):\n        self.size = size\n")
    assert registry.build("elsewhere:Mine(size=4)").size == 4
    for path in ("elsewhere:Yours", "nowhere.at_all:Mine", "elsewhere:"):
        with pytest.raises(ConfigError, match=r"cannot be imported .*package\.module:name"):
            registry.build(path)
    with pytest.raises(ConfigError, match="'math:pi' is float; it must be a class or a function"):
        registry.build("math:pi")


def test_other_distributions_add_theirs(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "from-elsewhere"

        @staticmethod
        def load() -> type[Thing]:
            return Thing

    def points(group: str) -> list[type[Point]]:
        return [Point] if group == "sartor.things" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    assert list(registry) == ["from-elsewhere", "thing"]
    assert registry.build("from-elsewhere(size=5)") == Thing(5)


def test_options_and_descriptions_come_from_the_entry(registry: Registry) -> None:
    assert registry.describe("thing") == "A thing with options."
    assert registry.options("thing") == {"size": 1, "shape": "round"}
    assert MODELS.options("cnn")["classes"] is inspect.Parameter.empty


@pytest.mark.parametrize("registry", ALL, ids=lambda registry: registry.kind)
def test_every_entry_describes_itself_in_a_line(registry: Registry) -> None:
    assert len(registry) > 0
    assert list(registry) == sorted(registry)
    for name in registry:
        line = registry.describe(name)
        assert 10 < len(line) <= 120, name
        assert registry[name] is registry[name]


@pytest.mark.parametrize(
    ("inside", "options"),
    [
        ("per=class", {"per": "class"}),
        ("per=class-gradient, ridge=0.5", {"per": "class-gradient", "ridge": 0.5}),
        ("a = lambda , b='per=class, x', c=\"y=z\"", {"a": "lambda", "b": "per=class, x", "c": "y=z"}),
        ("a=none, b=True, c=1e-3, d=(1, 2)", {"a": None, "b": True, "c": 1e-3, "d": (1, 2)}),
    ],
)
def test_bare_words_need_no_quotes(inside: str, options: dict[str, object]) -> None:
    assert parse(f"name({inside})") == ("name", options)
