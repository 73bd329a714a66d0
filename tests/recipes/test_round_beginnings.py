"""With which weights rounds begin, and which plans they leave."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from sartor.data.formats import Splits, digits
from sartor.errors import SelectionError
from sartor.prune.channels import ChannelPlan, load_small
from sartor.recipes import Active, PruneFuse, rounds
from sartor.recipes.drawing import is_trained
from sartor.recipes.rounds import Rounds
from staged_runs import CNN, FC, fit, net, stopped_after

TINY: dict[str, Any] = {"epochs": 2, "batch_size": 64, "budgets": "100,150,200"}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


DRAWS = [
    (Active(**TINY, acquisition="random"), True),
    (Active(**TINY, fresh="same"), False),
    (Active(budgets="100"), False),
    (PruneFuse(**TINY), True),
    (PruneFuse(**TINY, fresh="same"), False),
    (PruneFuse(**TINY, t_sync=1), False),
    (PruneFuse(**TINY, t_sync=2), True),
    (PruneFuse(**TINY, t_sync=1, fusion=False), True),
    (PruneFuse(**TINY, t_sync=1, stop_after=1, kd=False), False),
]


@pytest.mark.parametrize(("recipe", "draws"), DRAWS, ids=range(len(DRAWS)))
def test_which_recipes_draw_the_network_anew(
    recipe: Rounds, draws: bool, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, original = [], rounds.redrawn

    def watched(*given: Any) -> Any:
        drawn.append(given)
        return original(*given)

    monkeypatch.setattr(rounds, "redrawn", watched)
    fit(recipe.with_options(epochs=2, batch_size=64), splits)
    assert recipe.draws_anew == bool(drawn) == draws


NOTED = [
    (CNN, {}, "the network has been trained, but fresh is redraw"),
    (FC, {"labels": {"model": "timm:some(pretrained=True)"}}, "timm:some.pretrained=True., asks for trained weights"),
    (FC, {"labels": {"model": "torchvision:some(weights=DEFAULT)"}}, "asks for trained weights, but fresh is redraw"),
]


@pytest.mark.parametrize(("spec", "given", "words"), NOTED, ids=range(len(NOTED)))
def test_trained_weights_that_would_be_scattered_are_said_once(
    splits: Splits, tmp_path: Path, spec: str, given: dict[str, Any], words: str
) -> None:
    recipe = PruneFuse(**TINY, probe=0)
    model = net(spec)
    if spec == CNN:
        model.train()(splits.train.gather(splits.train.rows[:32]))  # batch norm takes its statistics down
    data = (splits.train, splits.test)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with stopped_after(12):
            recipe.fit(copy.deepcopy(model), *data, out=tmp_path / "run", **given)
        recipe.fit(copy.deepcopy(model), *data, out=tmp_path / "run", **given)
    (said,) = [str(one.message) for one in caught if "fresh is redraw" in str(one.message)]
    assert re.search(words, said)
    assert "Give --fresh same" in said
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe.with_options(fresh="same").fit(model, *data, **given)
        fit(recipe, splits, spec, labels={"model": "timm:some(pretrained=False)"})
        fit(recipe, splits, spec, labels={"model": "my own (net"})
    assert not [one for one in caught if "fresh is redraw" in str(one.message)]


def test_a_network_is_trained_where_its_norms_have_seen_data() -> None:
    model = net(CNN)
    assert not is_trained(model)
    assert not is_trained(net(FC))
    scaled = copy.deepcopy(model)
    scaled.get_buffer("bn1.running_var").fill_(2.0)
    assert is_trained(scaled)
    model(torch.zeros(4, 1, 8, 8))
    assert is_trained(model)


@pytest.mark.parametrize(
    "options",
    [{}, {"dispersion": "random"}, {"t_sync": 1}, {"epochs": 4, "dynamic": 2, "dynamic_epochs": 3}, {"fusion": False}],
    ids=str,
)
def test_plans_are_kept_with_what_they_tell_of(
    splits: Splits, stages: list[Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    """In the run's folder where a target was fused, and where its weights are; in a stage's with its small network."""
    recipe = PruneFuse(**{**TINY, "probe": 0, **options})
    fit(recipe, splits, CNN, out=tmp_path / "run")
    assert (tmp_path / "run/plan.json").exists() == recipe.fusion
    selector, (target, begun) = [stage for stage, _ in stages if "selector" in stage.title][-1], stages[-1]
    assert target.title.startswith("target")
    small = selector.model.state_dict()
    if recipe.fusion:
        plan = ChannelPlan.load(tmp_path / "run/plan.json")
        assert all(torch.equal(plan.cut(name, value), small[name]) for name, value in begun.items())
    folders = sorted((tmp_path / "run/stages").iterdir())
    for (stage, _), folder in zip(stages, folders, strict=True):
        whole = "target" in stage.title or "dense" in stage.title or stage.title.endswith("part-1")
        assert (folder / "plan.json").exists() != whole
        if not whole:
            again, _ = load_small(folder, net(CNN, seed=5))
            trained = stage.model.state_dict()
            assert all(torch.equal(value, trained[name]) for name, value in again.state_dict().items())
    assert "plan.json" in (folders[-2] / "SHA256SUMS").read_text()


def test_one_round_needs_no_network_that_could_choose(splits: Splits) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(64, 10, generator=torch.Generator().manual_seed(0)) / 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) @ self.weight

    options = {"epochs": 1, "batch_size": 64, "acquisition": "badge", "probe": 0}
    assert Active(**options, budgets="100").fit(Bare(), splits.train, splits.test).test_accuracy is not None
    with pytest.raises(SelectionError, match="no Linear returns"):
        Active(**options, budgets="100,150").fit(Bare(), splits.train, splits.test)
