"""The two operators are declared only where torchvision's own cannot be loaded."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

from sartor.models import torchvision_shim
from sartor.models.torchvision_shim import prepare_torchvision

PACKAGE = """
import torch
torch.ops.torchvision.nms, torch.ops.torchvision.qnms  # fails at import where they are not there
"""
MODELS = """
from torch import nn
def list_models(module): return ["tiny"]
def get_model(name, weights, num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
"""
PROGRAM = """
import warnings, torch
from sartor.models.build import build_model
from sartor.models.torchvision_shim import prepare_torchvision
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(2):
        model = build_model("torchvision:tiny", classes=3, input_shape=(3, 2, 2), seed=0)
        prepare_torchvision()
assert model(torch.zeros(1, 3, 2, 2)).shape == (1, 3)
print(len(told), told[0].message)
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A torchvision whose operators cannot be loaded, as the CUDA build beside a torch for the CPU."""
    package = tmp_path / "torchvision"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    (package / "models" / "__init__.py").write_text(MODELS)
    (package / "_C.so").write_bytes(b"this is no library")
    return tmp_path


def test_a_torchvision_that_does_not_fit_is_imported_and_said_once(broken: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(broken)!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 torchvision's compiled operators do not fit this torch (")
    assert "its networks work, torchvision.ops and its image reader do not" in done.stdout


@pytest.fixture
def found(broken: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The broken one is on the path; returns what gets declared, which goes to no real library."""
    declared: list[str] = []

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            assert (namespace, kind) == ("torchvision", "FRAGMENT")

        def define(self, schema: str) -> None:
            declared.append(schema)

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(str(broken))
    importlib.invalidate_caches()
    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_shim, "_kept", [])
    monkeypatch.setattr(torch.ops, "torchvision", types.SimpleNamespace(), raising=False)
    return declared


def test_both_operators_are_declared_and_kept(found: list[str]) -> None:
    with pytest.warns(UserWarning, match="compiled operators do not fit"):
        prepare_torchvision()
    assert [schema.partition("(")[0] for schema in found] == ["nms", "qnms"]
    assert len(torchvision_shim._kept) == 1


def test_a_build_without_operators_is_helped_too(found: list[str], broken: Path) -> None:
    (broken / "torchvision" / "_C.so").unlink()
    with pytest.warns(UserWarning, match="there are none"):
        prepare_torchvision()
    assert len(found) == 2


def test_nothing_is_done_where_they_load(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_torchvision()
    assert [path.name for path in loaded] == ["_C.so"]
    assert not found


def test_nothing_is_done_where_they_are_there_already(found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.SimpleNamespace(nms=1, qnms=1)
    monkeypatch.setattr(torch.ops, "torchvision", there, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare_torchvision()
    assert not found


def test_nothing_is_done_where_torchvision_is_imported_or_missing(found: list[str], monkeypatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
        prepare_torchvision()
        monkeypatch.delitem(sys.modules, "torchvision")
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        prepare_torchvision()
    assert not found
