"""A network and data of the user's own, named from the shell by module or by file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command_line import SMALL, call, done, refused, results_of, set_up

OWN = """
import torch
import torch.nn.functional as F
from sartor.data import Pool, Splits


def data(root=None):
    generator = torch.Generator().manual_seed(0)
    x = {"sound": torch.randn(150, 4, generator=generator), "sight": torch.randn(150, 6, generator=generator)}
    y = (x["sound"][:, 0] > 0).long()
    parts = [({name: v[part] for name, v in x.items()}, y[part]) for part in (slice(0, 120), slice(120, 150))]
    return Splits("senses", Pool.from_arrays(*parts[0]), Pool.from_arrays(*parts[1]))


class Cosine(torch.nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.directions = torch.nn.Parameter(torch.randn(classes, features))

    def forward(self, features):
        return 10 * F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T


class Net(torch.nn.Module):
    def __init__(self, classes, input_shape, width=8):
        super().__init__()
        self.sound = torch.nn.Linear(input_shape["sound"][0], width)
        self.sight = torch.nn.Linear(input_shape["sight"][0], width)
        self.head = Cosine(width, classes)

    def forward(self, sound, sight):
        return self.head((self.sound(sound) + self.sight(sight)).relu())
"""
FLAGS = ("--epochs", "3", "--batch-size", "30", "--fraction", "0.4", "--every", "1", "--pruner", "rigl(every=2)")
WHOLE = (*FLAGS, "--selector", "moderate", "--head", "head", "--variant", "whole", "--sparsity", "0.5")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the network in own/senses.py, as a package and as a file."""
    set_up(tmp_path, monkeypatch)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "senses.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", str(tmp_path))])
    for name in [name for name in sys.modules if name.split(".")[0] == "own"]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "own" or str(tmp_path) in name]:
        del sys.modules[name]


def on_model(model: str) -> tuple[str, ...]:
    return ("train", "swast", "--data", "own/senses.py:data", "--model", model, *FLAGS)


def test_dicts_and_cosines_train_from_the_shell_by_module_and_by_file(place: Path) -> None:
    done("train", "swast", "--data", "own.senses:data", "--model", "own.senses:Net(width=6)", *WHOLE, "--out", "a")
    done(
        "train", "swast", "--data", "own/senses.py:data", "--model", "own/senses.py:Net(width=6)", *WHOLE, "--out", "b"
    )
    first, second = results_of(place / "a"), results_of(place / "b")
    assert first["parameters"] == 6 * 4 + 6 + 6 * 6 + 6 + 2 * 6
    assert first["digest"] == second["digest"]
    assert sorted(first["density_by_layer"]) == ["sight.weight", "sound.weight"]
    assert "own/senses.py:Net(width=6)" in json.loads((place / "b" / "results.json").read_text())["command"]


def test_a_comparison_takes_them_too(place: Path) -> None:
    words = ("--data", "own/senses.py:data", "--model", "own/senses.py:Net", *FLAGS[:-2], "--selector", "moderate")
    words += ("--head", "head", "--pruner", "rigl(every=2, sparsity={'sound': 0.5})", "--arms", "dense", "swast-cut")
    out = done("compare", *words, "--dry-run").out
    assert "all 10 runs" in out


def test_what_it_cannot_do_is_one_line(place: Path) -> None:
    given = ("train", "swast", "--data", "own.senses:data", "--model", "own.senses:Net", *FLAGS)
    assert "--variant whole" in refused(*given, "--selector", "el2n")
    assert "works with any head: " in refused(*given, "--selector", "gradmatch", "--variant", "whole", "--head", "head")
    shown = refused("train", "swast", "--data", "own.senses:data", "--model", "cnn")
    assert "cnn takes one tensor, but a sample is {'sound': (4,), 'sight': (6,)}" in shown
    assert "cannot be imported" in refused(*on_model("own/sensse.py:Net"))
    assert "cannot be imported" in refused(*on_model("own/senses.py:Nte"))
    assert "is dict; it must be a class" in refused(*on_model("own/senses.py:__dict__"))


def test_a_network_that_does_not_fit_the_data_is_one_line_in_a_comparison_too(place: Path) -> None:
    (place / "own" / "narrow.py").write_text(
        "from torch import nn\n\n\ndef net(classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(9, 2))\n"
    )
    for words in (("train", "dense", *SMALL, "--epochs", "2"), ("compare", *SMALL, *FLAGS)):
        message = refused(*words, "--model", "own/narrow.py:net")
        assert "the model cannot take sample 'train/00000', (1, 8, 8) (mat1 and mat2" in message


def test_a_file_that_fails_can_be_mended_and_named_again(place: Path) -> None:
    path = place / "own" / "late.py"
    path.write_text("import nothing_of_this_name\n")
    assert "nothing_of_this_name" in refused("train", "dense", *SMALL, "--epochs", "1", "--model", "own/late.py:net")
    path.write_text(
        "from torch import nn\n\n\ndef net(classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    assert call("train", "dense", *SMALL, "--epochs", "1", "--model", "own/late.py:net", "--dry-run").code == 0
