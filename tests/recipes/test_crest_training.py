"""CREST in trainings: what is charged, what is trained on, and that a run goes on where it was stopped."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from sartor.cli.main import main
from sartor.data.formats import digits
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.recipes import Dense, DropHot
from sartor.recipes.forecaster import Forecaster
from sartor.registry import SAMPLERS
from sartor.select.crest import CREST
from sartor.train import Trainer
from staged_runs import stopped_after


@pytest.fixture(scope="module")
def splits():
    return digits()


FC = "fc(hidden=8)"
QUICK = {"epochs": 6, "batch_size": 50, "fraction": 0.1, "holdout": 0.0, "probe": 0, "evaluate_every": 6, "warmup": 1}


def fit(splits, recipe, **options):
    model = build_model(FC, classes=10, input_shape=(1, 8, 8), seed=0)
    return recipe.fit(model, splits.train, splits.test, **options)


@pytest.mark.parametrize("threshold", [0, 0.05, 0.3, 100])
def test_every_look_is_charged_and_the_forecast_is_the_most(splits, threshold):
    recipe = Dense(**QUICK, sampler=f"crest(threshold={threshold}, batch_size=50)")
    result, cost = fit(splits, recipe), Forecaster(splits, FC)(recipe)
    told = [line["told"] for line in result.metrics if line["kind"] == "selection"]
    choices, checks = sum(not one["kept"] for one in told), sum(one["error"] is not None for one in told)
    assert (len(told), checks) == (cost.selections, 4) == (5, 4)
    select, k = result.results["samples"]["select"], 130
    assert select == {"forward": 4 * k * (choices + checks), "trained": k * choices}
    forward = Forecaster(splits, FC).flops.forward
    own = CREST(batch_size=50).arithmetic(len(splits.train), k, classes=10, features=8)
    passed = 4 * k * (choices + checks) + 9 * k * choices
    assert result.results["flops_by_purpose"]["select"] == pytest.approx(passed * forward + choices * own)
    assert result.results["flops_by_purpose"]["train"] == cost.flops_by_purpose["train"]
    assert cost.bounded
    assert result.results["flops"] <= cost.flops * (1 + 1e-12)
    if threshold == 0:
        assert result.results["flops"] == pytest.approx(cost.flops, rel=1e-12)
        assert sum(one["trained"] for one in result.results["samples"].values()) == cost.trained
        assert sum(one["forward"] for one in result.results["samples"].values()) == cost.scanned
    assert (choices == 1) == (threshold == 100)
    assert choices == 5 or threshold > 0


def test_it_is_not_matched_in_cost(splits):
    with pytest.raises(ConfigError, match="is not known before"):
        Forecaster(splits, FC).matched(Dense(**QUICK, sampler="crest"), 1e9)


def test_training_goes_on_the_mini_batch_coresets_with_weights_of_mean_1(splits, monkeypatch):
    seen = []
    original = Trainer.train_epoch
    monkeypatch.setattr(
        Trainer, "train_epoch", lambda self, subset, *a, **b: (seen.append(subset), original(self, subset, *a, **b))[1]
    )
    fit(splits, Dense(**QUICK, sampler="crest(every=2, threshold=0, batch_size=50)"))
    assert [len(subset) for subset in seen] == [1297] + [130] * 5
    assert all(float(subset.weights.double().mean()) == pytest.approx(1, abs=1e-6) for subset in seen)
    same = [torch.equal(a.rows, b.rows) for a, b in pairwise(seen[1:])]
    assert same == [True, False, True, False], "looked at every other epoch"
    assert max(float(subset.weights.max()) for subset in seen[1:]) > 1.5


def test_the_steps_of_a_training_are_those_of_its_subsets_alone(splits, monkeypatch):
    """Original: each gradient enters its step twice. With random weights the same subsets train the same network."""
    recipe = Dense(**QUICK, sampler="crest(threshold=100, batch_size=50)")
    mine = fit(splits, recipe).results["digest"]

    class Again(CREST):
        """Gives what CREST gave, and looks at nothing."""

        needs = frozenset()

        def sample(self, rows, k, **_):
            return found

    found = fit(splits, recipe).subset
    monkeypatch.setitem(SAMPLERS._entries, "again", Again)
    other = fit(splits, recipe.with_options(sampler="again(every=99)")).results["digest"]
    assert other["weights"] == mine["weights"]


RESUMED = [
    Dense(**QUICK, sampler="crest(threshold=0.1, batch_size=50, period=2)"),
    DropHot(epochs=3, selector="crest(threshold=0.1)", probe=0),
    DropHot(epochs=3, selector="sieve(every=1)", probe=0),
]


@pytest.mark.parametrize("recipe", RESUMED, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("after", [3, 8, 12])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_were_not(splits, tmp_path, recipe, after):
    whole = fit(splits, recipe, out=tmp_path / "whole")
    with stopped_after(after):
        fit(splits, recipe, out=tmp_path / "cut")
    again = fit(splits, recipe, out=tmp_path / "cut")
    for name in ("digest", "flops_by_purpose", "samples"):
        assert again.results[name] == whole.results[name]
    assert again.metrics == whole.metrics
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").rglob("subsets/*")}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "cut").rglob("subsets/*")}
    assert fit(splits, recipe, out=tmp_path / "cut").results == again.results


def test_the_shell_tells_of_every_look(tmp_path, capsys):
    flags = ["--data", "digits", "--model", FC, "--epochs", "4", "--batch-size", "128", "--fraction", "0.2"]
    flags += ["--sampler", "crest(threshold=100)", "--out", str(tmp_path / "run"), "--probe", "0"]
    assert main(["train", "dense", *flags]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "selected" in line]
    assert len(printed) == 3
    assert printed[0].endswith("samples, left out 0")
    assert ", error " in printed[1]
    assert printed[1].endswith(", kept, left out 0")
