"""Labels from people, and networks that ask for them: wrong lines, classes in another order, nothing learnt."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import content, covers, notes, one_line
from torch import nn

from sartor.cli.display import round_line
from sartor.data.pool import Pool
from sartor.errors import DataError, SartorError, Stopped
from sartor.recipes import Active, Dense, PruneFuse, PruneFuseCoreset
from sartor.recipes.asking import Session
from sartor.recipes.concluding import at_chance
from sartor.recipes.forecast_rounds import Networks, forecast_rounds
from sartor.recipes.rounds import Rounds
from sartor.report.budget_table import selector_cell

NAMES = ["no", "yes", "maybe"]
RECIPE = Active(epochs=1, batch_size=8, budgets="6,12", holdout=0.0, probe=0)
POINTS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) * 3 // 60
"""A class after the other, as folders have them."""


def pool(names: list[str] | None = None, classes: int | None = None, *, labelled: bool = False) -> Pool:
    return Pool.from_arrays(POINTS, LABELS if labelled else None, class_names=names, classes=classes)


def network(*, dead: bool = False) -> nn.Module:
    """A small network; a dead one says the same of all samples, whatever it is taught."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        made = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        made[0].bias.fill_(-1e3 if dead else 0.1)
    return made


def opened(out: Path, given: Pool | None = None, test: Pool | None = None) -> Session:
    return RECIPE.session(network(), given or pool(NAMES), test, out=out)


def answers(ids: list[str]) -> dict[str, str]:
    return {name: NAMES[int(LABELS[int(name)])] for name in ids}


@covers("names of classes in another order")
@pytest.mark.parametrize(
    ("begun", "given", "words"),
    [
        (NAMES, pool(["yes", "no", "maybe"]), "began with 'no' as class 0, which is 'yes' in the pool"),
        (NAMES, pool(["no", "yes"]), "began with 3 classes, the pool has 2"),
        (NAMES, pool([*NAMES, "other"]), "began with 3 classes, the pool has 4"),
        (NAMES, pool(classes=2), "began with 3 classes, the pool has 2"),
        (None, pool(NAMES), "began without names of classes"),
    ],
)
def test_labels_never_change_their_meaning(tmp_path: Path, begun: list[str] | None, given: Pool, words: str) -> None:
    session = opened(tmp_path / "run", pool(begun, 3))
    session.tell(dict.fromkeys(session.ask(), 1))
    kept = content(tmp_path / "run")
    with pytest.raises(DataError, match=words) as caught:
        opened(tmp_path / "run", given)
    one_line(caught.value)
    assert content(tmp_path / "run") == kept
    opened(tmp_path / "run", pool(begun, 3))
    opened(tmp_path / "run", pool(classes=3))


@covers("names of classes in another order")
def test_a_labelling_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Nothing tells what the order was."""
    first = opened(tmp_path / "run")
    first.tell(answers(first.ask()))
    kept = tmp_path / "run" / "samples.json"
    found = json.loads(kept.read_text())
    assert (found.pop("classes"), found.pop("class_names")) == (3, NAMES)
    kept.write_text(json.dumps(found))
    assert opened(tmp_path / "run", pool(NAMES[::-1])).ask()


@covers("names of classes in another order")
@pytest.mark.parametrize("names", [["no"], ["no", "yes", 3], "no"])
def test_names_that_are_damaged(tmp_path: Path, names: Any) -> None:
    opened(tmp_path / "run").ask()
    kept = tmp_path / "run" / "samples.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"class_names": names}))
    with pytest.raises(SartorError, match=r"samples\.json cannot be read"):
        opened(tmp_path / "run")


@covers("names of classes in another order")
def test_a_test_set_with_other_names(tmp_path: Path) -> None:
    test = Pool.from_arrays(POINTS, LABELS, class_names=["no", "maybe", "yes"])
    with pytest.raises(DataError, match="class 1 is 'yes' in the training data and 'maybe' in the test data"):
        opened(tmp_path / "run", test=test)
    with pytest.raises(DataError, match="class 1 is 'yes'"):
        Dense(epochs=1).fit(network(), pool(NAMES, labelled=True), test)
    for same in (pool(NAMES, labelled=True), pool(classes=3, labelled=True)):
        Dense(epochs=1, batch_size=8).fit(network(), pool(NAMES, labelled=True), same)


@covers("labels.jsonl edited by hand")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"told": {"ID": 3}}', "tells 3 of 'ID', which is no class; they are numbers from 0 to 2"),
        ('{"told": {"ID": -1}}', "tells -1 of 'ID', which is no class"),
        ('{"told": {"ID": 1.5}}', "tells 1.5 of 'ID', which is no class"),
        ('{"told": {"ID": true}}', "tells true of 'ID', which is no class"),
        ('{"told": {"ID": "yes"}}', "tells \"yes\" of 'ID', which is no class"),
        ('{"told": {"ID": null}}', "tells null of 'ID', which is no class"),
        ('{"told": {"nobody": 1}}', "tells 1 of 'nobody', which was not asked for"),
        ('{"told": {"ID": 1}}\n{"told": {"ID": 2}}', "line 3 of .* tells 2 of 'ID', but 1 was told before"),
        ('{"told": {"ID": 1, "ID": 2}}', "line 2 of .* is damaged .'ID' is in it twice, with different values"),
        ('{"tell": {"ID": 1}}', "line 2 of .* is damaged .it is neither"),
        ('{"told": ["ID"]}', "is damaged .it is neither"),
        ('{"asked": "ID"}', "is damaged .it is neither"),
        ('{"asked": [7]}', "is damaged .it is neither"),
        ("[1]", "is damaged .it is neither"),
    ],
)
def test_wrong_lines_are_named_and_nothing_is_written(tmp_path: Path, line: str, words: str) -> None:
    session = opened(tmp_path / "run")
    ids = session.ask()
    with session.log.path.open("a") as file:
        file.write(line.replace("ID", ids[0]) + "\n")
    kept = content(tmp_path / "run")
    for call in (session.ask, session.finish, lambda: session.tell(answers(ids)), lambda: session.waiting):
        with pytest.raises(DataError, match=words.replace("ID", ids[0])) as caught:
            call()
        one_line(caught.value)
        assert content(tmp_path / "run") == kept


@covers("labels.jsonl edited by hand")
def test_right_lines_count(tmp_path: Path) -> None:
    session = opened(tmp_path / "run")
    ids = session.ask()
    with session.log.path.open("a") as file:
        file.write(json.dumps({"told": {ids[0]: 2}}) + "\n" + json.dumps({"told": {ids[0]: 2, ids[1]: 0}}) + "\n")
    assert session.waiting == ids[2:]
    assert session.log.read()[1] == {ids[0]: 2, ids[1]: 0}


def told_of(recipe: Rounds, model: nn.Module, out: Path) -> tuple[dict[str, Any], list[str]]:
    """What comes of a labelling without a test set, and what is said of what chose."""
    session = recipe.session(model, pool(NAMES), out=out)
    while ids := session.ask():
        session.tell(answers(ids))
    with notes() as lines:
        results = session.finish().results
    return results, [line for line in lines if "learnt nothing" in line]


@covers("a network that chooses and has learnt nothing")
def test_it_is_said_where_there_are_no_samples_but_those_it_learnt_from(tmp_path: Path) -> None:
    lost, said = told_of(RECIPE, network(dead=True), tmp_path / "dead")
    assert lost["rounds"][0] | {"at_chance": True, "selector_accuracy": None} == lost["rounds"][0]
    assert "the selector of round 0 has learnt nothing" in said[0]
    assert "(by 6 samples that it learnt from, for there are no others with labels)" in said[0]
    one_line(Warning(said[0]))
    shown = round_line({"kind": "round", **lost["rounds"][0]})
    assert shown == "round  0  6 labels, 6 more are asked for; the selector has learnt nothing"
    cell: Any = SimpleNamespace(selector_accuracy=None, at_chance=1, n=3)
    assert "chance in 1 of 3" in selector_cell(cell)
    able, silence = told_of(RECIPE.with_options(epochs=60), network(), tmp_path / "able")
    assert able["rounds"][0] | {"at_chance": False, "selector_accuracy": None} == able["rounds"][0]
    assert not silence


@covers("a network that chooses and has learnt nothing")
def test_a_proxy_without_other_samples() -> None:
    recipe = PruneFuseCoreset(epochs=1, batch_size=8, holdout=0.0, probe=0, lr=1e-9, fraction=0.2)
    with pytest.warns(UserWarning, match=r"\(by 60 samples that it learnt from"):
        results = recipe.fit(network(), pool(NAMES, labelled=True)).results
    assert (results["proxy_at_chance"], results["proxy_accuracy"]) == (True, None)


@covers("a network that chooses and has learnt nothing")
@pytest.mark.parametrize(
    "acquisition",
    ["least-confidence", "margin", "entropy", "alse(snapshots=2)", "badge", "k-center(start=labelled)"]
    + [f"{name}(balanced=False)" for name in ("herding", "facility-location", "graph-cut")],
)
def test_what_sees_no_difference_draws(acquisition: str) -> None:
    """Not the first rows, which are one class where data come from folders."""
    recipe = RECIPE.with_options(acquisition=acquisition, budgets="12,24")
    with pytest.warns(UserWarning, match="no better than a random draw"):
        results = recipe.fit(network(dead=True), pool(NAMES, labelled=True))
    first = [line["class_counts"] for line in results.metrics if line["kind"] == "selection"]
    asked = [last - before for before, last in zip(*first)]
    assert min(asked) > 0, asked


@covers("a network that chooses and has learnt nothing")
@pytest.mark.parametrize("t_sync", [0, 1])
def test_judging_is_charged_once_and_is_not_in_the_forecast(tmp_path: Path, t_sync: int) -> None:
    """It only watches; however often the labelling is gone through, or stopped, the ledger is the same."""
    recipe = PruneFuse(epochs=2, batch_size=8, budgets="6,12,20", holdout=0.0, probe=0, t_sync=t_sync)
    results, _ = told_of(recipe, network(), tmp_path / "run")
    given = pool(NAMES, labelled=True)
    cost = forecast_rounds(recipe, Networks.of(recipe, network(), given), len(given), 0)
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    for after in (2, 5, 9, 14):
        asked = iter([False] * after + [True])
        with pytest.raises(Stopped):
            recipe.fit(network(), given, out=tmp_path / f"{after}", stopping=functools.partial(next, asked))
        again = recipe.fit(network(), given, out=tmp_path / f"{after}").results
        assert again["digest"] == results["digest"]
        assert again["rounds"] == results["rounds"]
        assert watched(tmp_path / f"{after}") == watched(tmp_path / "run") == 6 + (1 + (t_sync > 0)) * (12 + 20)


def watched(run: Path) -> int:
    """Samples that were passed to watch only."""
    return int(json.loads((run / "ledger.json").read_text())["by_purpose"]["monitor"]["forward"])


@covers("a network that chooses and has learnt nothing")
@pytest.mark.parametrize(("labels", "accuracy", "lost"), [([0, 1], 1.0, False), ([0, 1], 0.5, True), ([1], 1.0, True)])
def test_few_samples_that_are_all_right_are_no_chance(labels: list[int], accuracy: float, lost: bool) -> None:
    few = Pool.from_arrays(torch.zeros(len(labels), 1), labels, classes=2)
    stage = SimpleNamespace(data=SimpleNamespace(train=few, validation=None, test=None))
    outcome: Any = SimpleNamespace(stage=stage, accuracy=None, train_accuracy=accuracy)
    assert at_chance(outcome) == lost
