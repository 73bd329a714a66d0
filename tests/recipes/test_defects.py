import math
from typing import Any

import pytest
import torch
from torch import nn

from sartor.data.formats import Splits, digits
from sartor.data.pool import Pool
from sartor.models.build import build_model
from sartor.recipes import DropHot
from sartor.recipes.defects import ChangesByPosition, chosen_by_position, held_at_rest
from sartor.recipes.staged import Stages


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def net(spec: str, seed: int = 0) -> nn.Module:
    return build_model(spec, classes=10, input_shape=(1, 8, 8), seed=seed)


class Oracle:
    """A trainer of a network that is always right."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.loader = self

    def scan(self, pool: Pool, needs: frozenset[str], *, purpose: str) -> Any:
        self.logits = torch.eye(10)[pool.targets_of(pool.rows)]
        return self


def test_changes_are_counted_by_place_and_say_nothing_of_the_samples(splits: Splits) -> None:
    counts = ChangesByPosition(len(splits.train), seed=3)
    for epoch in range(10):
        counts.begin(epoch, Oracle(splits.train))
        counts.begin(epoch, Oracle(splits.train))  # a run that goes on asks again
    n, rate = len(splits.train), 0.9
    assert int(counts.changes.max()) <= 9
    mean = float(counts.changes.double().mean()) / 9
    assert abs(mean - rate) < 4 * math.sqrt(rate * (1 - rate) / (9 * n)), "no prediction ever changed"
    tied = float((counts.changes == 9).double().mean())
    assert abs(tied - rate**9) < 4 * math.sqrt(rate**9 * (1 - rate**9) / n)


def test_scores_by_position_are_binomial_and_have_nothing_to_do_with_forgetting(splits: Splits) -> None:
    recipe = DropHot(epochs=1, score_epochs=6, fraction=0.2, lr=1e-2, legacy_defects="scores")
    report = recipe.fit(net("fc(hidden=16)"), splits.train, splits.test).results["scores"]
    assert abs(report["change_rate"] - 0.9) < 0.02
    assert abs(report["correlation"]) < 4 / math.sqrt(len(splits.train))
    assert sum(report["changes"]) == len(splits.train)
    assert report["most"] == report["changes"][5] / len(splits.train)


def test_the_defect_of_scores_leaves_the_training_as_it_was(splits: Splits) -> None:
    recipe = DropHot(epochs=1, score_epochs=3, fraction=0.2)
    plain, spoilt = (
        recipe.with_options(legacy_defects=defects).fit(net("fc(hidden=16)"), splits.train, splits.test)
        for defects in ("none", "scores")
    )
    assert torch.equal(plain.history.forgotten, spoilt.history.forgotten)
    assert not torch.equal(plain.subset.rows, spoilt.subset.rows)


def test_ties_by_position_go_to_the_first_rows(splits: Splits) -> None:
    changes = torch.full((len(splits.train),), 9)
    assert torch.equal(chosen_by_position(splits.train, changes, 50, largest=True).rows, splits.train.rows[:50])
    changes[7] = 3
    assert 7 not in chosen_by_position(splits.train, changes, 50, largest=True).rows
    assert 7 in chosen_by_position(splits.train, changes, 1, largest=False).rows
    spread = chosen_by_position(splits.train, changes, 100, largest=True, balanced=True)
    assert splits.train.targets_of(spread.rows).bincount().min() >= 8


def test_a_network_that_is_held_stays_in_eval_mode_and_is_free_again() -> None:
    model = net("cnn(width=4)")
    with held_at_rest(model):
        model.train()
        assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("selector", "spoilt"), [("forgetting", ["score"]), ("none", ["train"])])
def test_the_defect_of_batch_norm_trains_with_initial_statistics(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, selector: str, spoilt: list[str]
) -> None:
    done, original = [], Stages.carry_out

    def watching(self: Stages, stage: Any, *place: Any) -> Any:
        weight = stage.model.conv1.weight.clone()
        outcome = original(self, stage, *place)
        fresh = bool((stage.model.bn1.running_mean == 0).all())
        done.append((stage.title, fresh, not torch.equal(weight, stage.model.conv1.weight)))
        return outcome

    monkeypatch.setattr(Stages, "carry_out", watching)
    recipe = DropHot(epochs=1, selector=selector, legacy_defects="batchnorm", sparsity=0.5)
    recipe.fit(net("cnn(width=4)"), splits.train, splits.test)
    assert [title for title, fresh, _ in done if fresh] == spoilt
    assert all(moved for _, _, moved in done)
    assert done[-1][:2] == ("tune", False)
