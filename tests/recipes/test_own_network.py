"""A user's own network: samples that are dicts, logits that are cosines and come out of no Linear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import ConfigError, PruningError, SelectionError
from sartor.models.build import build_model
from sartor.recipes import Dense, SWaST
from sartor.scanning import scan

QUICK = {"epochs": 3, "batch_size": 20, "fraction": 0.4, "every": 1, "probe": 0}


class Cosine(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(classes, features, generator=torch.Generator().manual_seed(2)))

    def forward(self, features: Tensor) -> Tensor:
        return 10 * F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T


class TwoSenses(nn.Module):
    """Takes a dict of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.sound, self.sight = nn.Linear(4, 16), nn.Linear(6, 16)
        self.head = Cosine(16, 3)

    def forward(self, sound: Tensor, sight: Tensor) -> Tensor:
        return self.head((self.sound(sound) + self.sight(sight)).relu())


@pytest.fixture(scope="module")
def data() -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    sound, sight = torch.randn(150, 4, generator=generator), torch.randn(150, 6, generator=generator)
    return {"sound": sound, "sight": sight}, torch.stack([sound[:, 0], sight[:, 0], sight[:, 1]], 1).argmax(1)


def test_it_trains_in_ten_lines(data) -> None:
    """The whole of it, as the documentation has it."""
    recipe = SWaST(**QUICK, selector="moderate", head="head", variant="whole", sparsity=0.5)
    result = recipe.with_options(epochs=12).fit(TwoSenses(), data, data)
    assert result.test_accuracy > 0.7
    assert result.masks.names == ("sound.weight", "sight.weight")
    assert result.masks.density() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "options",
    [
        {"selector": "el2n", "variant": "whole"},
        {"selector": "el2n(keep=switch, balanced=True)", "variant": "whole", "head": "head"},
        {"selector": "random", "variant": "whole", "preserve": "selective"},
        {"selector": "moderate", "head": "head", "pruner": "none"},
        {"selector": "moderate", "head": "head", "pruner": "rigl(sparsity={'sound': 0.5, 'sight': 0.8})"},
        {"selector": "el2n", "head": "sight"},
        {"selector": "none", "fraction": 0.1, "every": 20, "variant": "whole"},
    ],
)
def test_what_reads_logits_or_features_works(data, options: dict) -> None:
    result = SWaST(**{**QUICK, **options}).fit(TwoSenses(), data)
    assert len(result.subset) == result.results["k"]


def test_the_dense_control_works(data) -> None:
    assert Dense(epochs=2, batch_size=20).fit(TwoSenses(), data, data).test_accuracy > 0.2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"selector": "el2n"}, PruningError, "variant cut .*no Linear makes the logits .*--variant whole"),
        ({"selector": "el2n", "variant": "trim"}, PruningError, "variant trim .*no Linear makes the logits"),
        ({"selector": "el2n", "head": "head"}, PruningError, "head 'head' is a Cosine without a weight"),
        ({"selector": "moderate", "variant": "whole"}, SelectionError, "no Linear returns .*or choose a selector that"),
        (
            {"selector": "gradmatch", "variant": "whole", "head": "head"},
            SelectionError,
            "gradient of the Linear that makes the logits, .*works with any head: .*el2n, .*moderate, .*random",
        ),
        ({"selector": "moderate", "variant": "whole", "head": "haed"}, ConfigError, "Did you mean 'head'"),
    ],
)
def test_what_does_not_is_refused_before_anything_is_written(
    data, tmp_path: Path, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SWaST(**QUICK, **options).fit(TwoSenses(), data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_features_of_a_scan_are_what_goes_into_the_head_named(data) -> None:
    from sartor.data.pool import Pool

    model, pool = TwoSenses(), Pool.from_arrays(*data)
    seen = scan(model, pool, needs={"features", "logits"}, head="head", batch_size=64)
    torch.testing.assert_close(seen.features, (model.sound(data[0]["sound"]) + model.sight(data[0]["sight"])).relu())
    assert seen.bias is None
    with pytest.raises(SelectionError, match="works with any head"):
        _ = seen.head_bias


def test_a_sample_that_does_not_fit_is_shown(data) -> None:
    wrong = ({"sound": data[0]["sound"], "sight": data[0]["sound"]}, data[1])
    shapes = r"\{'sound': \(4,\), 'sight': \(4,\)\}"
    with pytest.raises(ConfigError, match=rf"cannot take sample '000', {shapes} \(mat1 and mat2 .*\); it must fit"):
        Dense(epochs=1).fit(TwoSenses(), wrong)
    grey = (torch.zeros(20, 1, 32, 32), torch.arange(20) % 2)
    colour = build_model("cnn(width=2)", classes=2, input_shape=(3, 32, 32), seed=0)
    with pytest.raises(ConfigError, match=r"sample '00', \(1, 32, 32\) \(.*to have 3 channels, but got 1"):
        Dense(epochs=1).fit(colour, grey)


def test_a_table_of_whole_numbers_says_what_a_linear_takes() -> None:
    inputs = torch.arange(80).reshape(40, 2)
    with pytest.raises(ConfigError, match="measurements are given as float32"):
        Dense(epochs=1, probe=0).fit(nn.Linear(2, 2), (inputs, torch.arange(40) % 2), (inputs, torch.arange(40) % 2))
