from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sartor
from sartor.costs import Ledger, count_flops
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, PruningError
from sartor.models.build import build_model
from sartor.prune.channels import plan
from sartor.prune.grasp import GraSP
from sartor.prune.snip import SNIP
from sartor.prune.synflow import SynFlow
from sartor.recipes import DropHot, PruneFuse
from sartor.recipes.channel_scores import channel_scores, scoring_cost
from sartor.recipes.forecaster import Forecaster
from sartor.recipes.fusing import cut
from sartor.recipes.recipe import Recipe
from sartor.recipes.staged import Stage, Stages

CNN = "cnn(width=4)"
PRUNERS = {"snip": SNIP(), "grasp": GraSP(), "synflow": SynFlow(rounds=1)}
ROUNDS: dict[str, Any] = {"epochs": 2, "batch_size": 64, "budgets": "100,150"}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def net(seed: int = 0, spec: str = CNN) -> nn.Module:
    return build_model(spec, classes=10, input_shape=(1, 8, 8), seed=seed)


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
@pytest.mark.parametrize("importance", PRUNERS)
def test_channels_stay_by_the_pruners_scores_summed(splits: Splits, importance: str, scope: str) -> None:
    model, pruner, pool = net(), PRUNERS[importance], splits.train
    made = cut(model, pool, 0.5, importance=importance, scope=scope, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    rows = pool.rows[torch.randperm(len(pool), generator=generator)[: pruner.init_samples]]
    batches = [(pool.gather(rows), pool.targets_of(rows))]
    scores = pruner.scores(model, generator=generator, batches=batches)
    normaliser = None if scope == "local" else "none"
    byhand = plan(model, pool.gather(rows[:1]), 0.5, importance=scores, scope=scope, normaliser=normaliser)
    assert torch.equal(made.plan.units, byhand.units)
    assert importance == "synflow" or not torch.equal(
        byhand.units, plan(model, pool.gather(rows[:1]), 0.5, scope=scope, normaliser=normaliser).units
    )


def test_snip_of_a_channel_is_the_sum_of_what_its_weights_change(splits: Splits) -> None:
    """Of a hidden unit: its row of the first layer and its column of the second, by the gradient of the mean loss."""
    model, pool = net(spec="fc(hidden=16)"), splits.train.only(splits.train.rows[:50])
    made = cut(model, pool, 0.5, importance="snip", scope="local", generator=torch.Generator().manual_seed(0))
    F.cross_entropy(model(pool.gather(pool.rows)), pool.targets_of(pool.rows)).backward()
    rows, columns = ((w * w.grad).abs().detach() for w in (model.hidden.weight, model.classifier.weight))
    best = (rows.sum(1) + columns.sum(0)).topk(8).indices.sort().values
    assert torch.equal(made.plan.kept["hidden.weight"][0], best)


@pytest.mark.parametrize(("importance", "samples", "passes"), [("snip", 128, 1), ("grasp", 128, 4), ("synflow", 1, 1)])
def test_what_is_read_is_charged(splits: Splits, importance: str, samples: int, passes: int) -> None:
    model, ledger = net(), Ledger()
    forward = count_flops(model, splits.train.gather(splits.train.rows[:1])).forward
    channel_scores(importance, model, splits.train, generator=torch.Generator(), ledger=ledger)
    account = ledger.by_purpose()["prune"]
    assert (account["trained"], account["forward"]) == (samples * passes, 0)
    assert account["flops"] == 3 * samples * passes * forward
    assert account["seconds"] > 0
    assert scoring_cost(importance, forward, 20) == (min(20, samples) * passes, 3 * min(20, samples) * passes * forward)
    assert scoring_cost("l2", forward, 20) == (0, 0.0)


RECIPES: list[Recipe] = [
    PruneFuse(**ROUNDS, importance="snip"),
    PruneFuse(**ROUNDS, importance="grasp", t_sync=1, sync_epochs=1),
    PruneFuse(**{**ROUNDS, "epochs": 4}, importance="synflow", dynamic=2, dynamic_epochs=2),
    DropHot(epochs=1, selector="random", pruning="channels", importance="snip", sparsity=0.5),
    DropHot(epochs=2, selector="random", pruning="channels", importance="grasp", sparsity=0.5, iterations=2),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_recipes_cost_what_their_forecasts_say(recipe: Recipe, splits: Splits) -> None:
    results, cost = recipe.fit(net(), splits.train, splits.test).results, Forecaster(splits, CNN)(recipe)
    told = {purpose: flops for purpose, flops in results["flops_by_purpose"].items() if flops}
    assert told == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert told["prune"] > 0
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained


def test_a_round_reads_the_labels_that_it_knows_and_no_others(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    read, stages = [], []
    original, carry_out = SNIP.scores, Stages.carry_out

    def reading(self: SNIP, *arguments: Any, batches: Any, **options: Any) -> Any:
        read.append(batches)
        return original(self, *arguments, batches=batches, **options)

    def watching(self: Stages, stage: Stage, *place: Any) -> Any:
        stages.append(stage)
        return carry_out(self, stage, *place)

    monkeypatch.setattr(Stages, "carry_out", watching)
    recipe = PruneFuse(**ROUNDS, importance="snip")
    recipe.check_data(net(), sartor.recipes.setup.prepare_data(recipe, splits.train, splits.test))
    monkeypatch.setattr(SNIP, "scores", reading)
    recipe.fit(net(), splits.train, splits.test)
    in_rounds = read[-2:]
    for (batch,), stage in zip(in_rounds, [stage for stage in stages if "selector" in stage.title], strict=True):
        known = stage.data.train
        inputs, targets = batch
        assert len(targets) == min(128, len(known))
        table = known.gather(known.rows).flatten(1)
        places = [(table == one.flatten()).all(1).nonzero()[0, 0] for one in inputs]
        assert known.targets_of(known.rows)[torch.stack(places)].tolist() == targets.tolist()


def test_people_need_no_label_before_the_first_round(splits: Splits, tmp_path: Any) -> None:
    pool = sartor.Pool.from_arrays(splits.train.inputs[:120], classes=10)
    session = PruneFuse(epochs=1, batch_size=16, budgets="20,40", importance="snip", augment="none").session(
        net(), pool, out=tmp_path / "run"
    )
    truth = dict(zip(pool.ids, splits.train.targets[:120].tolist(), strict=True))
    for _ in range(2):
        session.tell({name: truth[name] for name in session.ask()})
    assert len(session.finish().subset) == 40


def test_samples_without_labels_are_refused_where_it_matters(splits: Splits) -> None:
    blank = splits.train.relabelled(torch.full((len(splits.train.ids),), -1), None)
    with pytest.raises(PruningError, match="importance snip reads labels, but some samples have none"):
        channel_scores("snip", net(), blank, generator=torch.Generator(), ledger=Ledger())


def test_layers_of_a_kind_lose_their_share_together(splits: Splits) -> None:
    recipe = PruneFuse(**ROUNDS, scope="isomorphic", importance="group-norm")
    result = recipe.fit(net(), splits.train, splits.test)
    small, dense = result.results["rounds"][-1]["selector_parameters"], result.results["parameters"]
    assert small < 0.7 * dense


def test_where_importance_has_no_effect_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="importance: without effect without pruning channels"):
        DropHot(importance="snip")
