"""Names that stand for families of entries, and entries in a file of the user's own."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from sartor.errors import ConfigError
from sartor.registry import Registry, parse


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry with the family `box`, in a folder of its own."""
    package = f"things_{uuid.uuid4().hex}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    things = Registry("thing", package)

    @things.register_prefix("box")
    def box(name: str, size: int = 1, *, lid: bool = True, **others: object) -> tuple:
        """A box of any make.

        More of it.
        """
        return name, size, lid, others

    return things


def test_a_prefix_hands_the_name_on_with_options_and_what_is_given(registry: Registry) -> None:
    assert registry.build("box:oak") == ("oak", 1, True, {})
    assert registry.build("box:a.b-c(lid=False, depth=2)", size=3) == ("a.b-c", 3, False, {"depth": 2})
    assert registry.build("box:a:b")[0] == "a:b"
    assert registry.families == {"box:NAME": "A box of any make."}
    assert registry.describe("box:oak") == "A box of any make."
    assert "name" not in registry.options("box:oak")
    assert "box" not in registry
    assert list(registry) == []


def test_declared_options_of_a_family_are_checked(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="lid of thing 'box:oak' is 'no'; it must be true or false"):
        registry.build("box:oak(lid=no)")
    with pytest.raises(ConfigError, match="already a thing prefix 'box'"):
        registry.register_prefix("box")(tuple)
    with pytest.raises(ConfigError, match="no thing called 'box'"):
        registry.build("box")


def test_a_module_may_have_the_name_of_a_family_with_dots(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "boxes.py").write_text("def oak():\n    return 'own'\n")
    assert registry.build("boxes:oak") == "own"


def test_a_file_is_run_once_and_known_by_its_path(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    own = tmp_path / "sub" / "random.py"  # the name of a module that there is already
    own.write_text("from dataclasses import dataclass\n\n\n@dataclass\nclass Thing:\n    size: int = 1\n")
    try:
        made = registry.build("sub/random.py:Thing(size=2)")
        assert made.size == 2
        assert type(made) is type(registry.build(f"{own}:Thing"))
        assert type(made).__module__ == str(own)
        assert not hasattr(sys.modules.get("random"), "Thing")
        with pytest.raises(ConfigError, match=r"thing 'sub/random.py:Thing' has no option 'sise'.*Did you mean 'size'"):
            registry.build("sub/random.py:Thing(sise=2)")
    finally:
        sys.modules.pop(str(own), None)


@pytest.mark.parametrize("spec", ["sub/nowhere.py:Thing", "nowhere.py:Thing", "sub:Thing"])
def test_a_file_that_is_not_there_is_one_line(registry: Registry, spec: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be imported \(.*give it as file.py:name, or package.module:name"):
        registry.build(spec)


def test_a_file_that_fails_is_forgotten(registry: Registry, tmp_path: Path) -> None:
    own = tmp_path / "late.py"
    own.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        registry.build("late.py:Thing")
    assert str(own) not in sys.modules


def test_paths_can_be_read_in_specs() -> None:
    assert parse("../own-nets/a_1.py:Net(width=2)") == ("../own-nets/a_1.py:Net", {"width": 2})
