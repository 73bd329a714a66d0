"""A stage is a training like any other: with weights, masks, a history, a pruner, a part of a schedule."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sartor.data.augment import Augment
from sartor.data.formats import digits
from sartor.errors import ResumeError
from sartor.models.build import build_model
from sartor.recipes import Dense
from sartor.recipes.drawing import redrawn
from sartor.recipes.setup import Data, Setting
from sartor.recipes.staged import Outcome, Stage, Stages, Training
from sartor.run import Run

DOCS = Path(__file__).parents[2] / "docs"
PLAIN = Training.like(Dense(epochs=4, batch_size=32, probe=0), seed=3)


@pytest.fixture(scope="module")
def data() -> Data:
    splits = digits()
    return Data(splits.train.only(splits.train.rows[:200]), None, splits.test, Augment())


def net() -> nn.Module:
    return build_model("fc(hidden=8)", classes=10, input_shape=(1, 8, 8), seed=0)


def carried_out(data: Data, folder: Path | None, *stages: Stage) -> list[Outcome]:
    with Run(folder, {"recipe": "test"}, seed=0) as run:
        run.save()
        setting = Setting(run, net(), data, torch.device("cpu"), 0, 60.0, {}, "")
        all_of_them = Stages(setting)
        for stage in stages:
            all_of_them.carry_out(stage)
        return all_of_them.done


def weights(outcome: Outcome) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in outcome.model.parameters()])


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weights": torch.arange(1.0, 201.0)},
    "masks": {"masks": {"hidden.weight": torch.arange(512).view(8, 64) % 3 > 0}},
    "history": {"recipe": PLAIN.with_options(record="batch")},
    "pruner": {"recipe": PLAIN.with_options(pruner="magnitude(sparsity=0.5)")},
    "what follows": {"then": lambda trainer, ends: {"step": trainer.step}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_stage_is_the_same_in_memory_in_a_folder_and_read_back(case: str, data: Data, tmp_path: Path) -> None:
    def stage() -> Stage:
        return Stage(**{"title": "one", "recipe": PLAIN, "model": net(), "data": data, **CASES[case]})

    (alone,) = carried_out(data, None, stage())
    (first,) = carried_out(data, tmp_path / "run", stage())
    (again,) = carried_out(data, tmp_path / "run", stage())
    assert torch.equal(weights(alone), weights(first))
    assert torch.equal(weights(first), weights(again))
    assert first.found == again.found == alone.found
    assert (tmp_path / "run" / "stages" / "01-one" / "results.json").exists()
    if case == "weights":
        assert not torch.equal(weights(alone), weights(carried_out(data, None, Stage("one", PLAIN, net(), data))[0]))
    if case == "masks":
        assert not again.model.hidden.weight[~CASES[case]["masks"]["hidden.weight"]].any()
        assert again.result.masks is not None
    if case == "history":
        assert again.result.history is not None
    if case == "pruner":
        assert again.result.masks.density() == pytest.approx(0.5, abs=0.01)


def test_a_schedule_in_two_parts_is_one_schedule(data: Data) -> None:
    whole, first, second = (
        PLAIN.with_options(momentum=0.0, start=a, stop=b) for a, b in ((0, None), (0, 2), (2, None))
    )
    (one,) = carried_out(data, None, Stage("one", whole, net(), data))
    model = net()
    parts = carried_out(data, None, Stage("a", first, model, data), Stage("b", second, model, data))
    assert torch.equal(weights(one), weights(parts[-1]))
    rates = [line["lr"] for part in parts for line in part.result.metrics if line["kind"] == "epoch"]
    assert rates == [line["lr"] for line in one.result.metrics if line["kind"] == "epoch"]


@pytest.mark.parametrize("changed", ["data", "beginning", "weights", "about"])
def test_a_stage_that_is_another_one_is_refused(changed: str, data: Data, tmp_path: Path) -> None:
    carried_out(data, tmp_path / "run", Stage("one", PLAIN, net(), data))
    fewer = Data(data.train.only(data.train.rows[:100]), None, data.test, Augment())
    other: dict[str, dict[str, Any]] = {
        "data": {"data": fewer},
        "beginning": {"model": redrawn(net(), torch.Generator().manual_seed(1))},
        "weights": {"weights": torch.arange(1.0, 201.0)},
        "about": {"about": {"asked": 3}},
    }
    with pytest.raises(ResumeError, match="another configuration"):
        options = {"title": "one", "recipe": PLAIN, "model": net(), "data": data, **other[changed]}
        carried_out(data, tmp_path / "run", Stage(**options))


def test_a_stage_that_is_read_back_has_its_network_laid_out_as_after_its_training(data: Data, tmp_path: Path) -> None:
    """What computes with it later, such as a teacher, rounds as it would in a run that was never stopped."""
    for _ in range(2):
        stage = Stage("one", PLAIN, build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=0), data)
        carried_out(data, tmp_path / "run", stage)
        assert stage.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
        assert not stage.model.conv2.weight.is_contiguous()


def test_a_redrawn_network_has_the_same_values_in_other_places() -> None:
    model = build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=0)
    fresh = redrawn(model, torch.Generator().manual_seed(0))
    for (name, mine), (_, its) in zip(fresh.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(mine.flatten().sort().values, its.flatten().sort().values)
        assert torch.equal(mine, its) == name.startswith("bn"), name
    again = redrawn(model, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("page", ["prunefuse", "active"])
def test_values_that_depend_on_each_other_are_scattered_and_their_pages_say_so(page: str) -> None:
    model = nn.Linear(8, 8)
    nn.init.orthogonal_(model.weight, generator=torch.Generator().manual_seed(0))
    fresh = redrawn(model, torch.Generator().manual_seed(0)).get_parameter("weight")
    assert torch.allclose(model.weight @ model.weight.T, torch.eye(8), atol=1e-5)
    assert not torch.allclose(fresh @ fresh.T, torch.eye(8), atol=0.1)
    words = " ".join((DOCS / f"methods/{page}.md").read_text().split())
    said = words.partition("A fresh draw lets")[2].partition(" - ")[0]
    assert "orthogonal, pretrained" in said
    assert 'fresh="same"' in said
