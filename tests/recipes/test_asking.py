from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sartor
from sartor.data.formats import digits
from sartor.data.preprocess import Preprocess
from sartor.errors import ConfigError, DataError, ResumeError, SartorError, SelectionError
from sartor.models.build import build_model
from sartor.recipes import PruneFuse
from sartor.recipes.asking import Session
from sartor.recipes.outcome import Result

RECIPE = PruneFuse(epochs=2, batch_size=32, budgets="20,30,40", holdout=0.0)


@pytest.fixture(scope="module")
def labelled() -> sartor.Pool:
    train = digits().train
    return train.only(train.rows[:200])


@pytest.fixture
def blank(labelled: sartor.Pool) -> sartor.Pool:
    """The same samples, of which nobody knows a label."""
    ids = labelled.ids_of(labelled.rows)
    names = [f"class {label}" for label in range(10)]
    inputs = labelled.inputs[labelled.rows]
    return sartor.Pool.from_arrays(inputs, ids=ids, class_names=names, classes=10, preprocess=labelled.preprocess)


def net() -> nn.Module:
    return build_model("fc(hidden=16)", classes=10, input_shape=(1, 8, 8), seed=0)


def opened(pool: sartor.Pool, out: Path, **options: Any) -> Session:
    """A session as a new process would open it."""
    return RECIPE.with_options(**options).session(net(), pool, out=out)


def truth(labelled: sartor.Pool, ids: list[str]) -> dict[str, int]:
    places = {name: row for row, name in enumerate(labelled.ids)}
    return {name: int(labelled.targets[places[name]]) for name in ids}


@pytest.mark.filterwarnings("ignore:.*learnt nothing")
def test_people_who_tell_the_truth_bring_what_a_simulation_brings(
    labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path
) -> None:
    whole = sartor.Pool.from_arrays(
        blank.inputs, labelled.targets_of(labelled.rows), ids=blank.ids, classes=10, preprocess=blank.preprocess
    )
    simulated = RECIPE.fit(net(), whole)
    seen: list[str] = []
    for size in (20, 30, 40):
        ids = opened(blank, tmp_path / "run").ask()
        assert len(ids) == size - len(seen)
        assert not set(ids) & set(seen)
        assert opened(blank, tmp_path / "run").ask() == ids  # asked twice, the same
        answers = truth(labelled, ids)
        half = dict(list(answers.items())[::-1][: len(ids) // 2])  # in part, and in another order
        session = opened(blank, tmp_path / "run")
        assert session.tell({name: f"class {label}" for name, label in half.items()}) == len(ids) - len(half)
        before = session.log.path.read_bytes()
        assert session.tell(half) == len(ids) - len(half)
        assert session.log.path.read_bytes() == before  # told twice, nothing changes
        with pytest.raises(SelectionError, match="wait for a label"):
            session.finish()
        assert opened(blank, tmp_path / "run").tell(answers) == 0
        seen += ids
    assert opened(blank, tmp_path / "run").ask() == []
    result = opened(blank, tmp_path / "run").finish()
    assert result.results["digest"]["weights"] == simulated.results["digest"]["weights"]
    assert result.results["digest"]["subset"] == simulated.results["digest"]["subset"]
    assert opened(blank, tmp_path / "run").finish().results == result.results


def test_what_cannot_be_told_changes_nothing(labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path) -> None:
    session = opened(blank, tmp_path / "run")
    ids = session.ask()
    answers = truth(labelled, ids)
    session.tell({ids[0]: answers[ids[0]]})
    kept = session.log.path.read_bytes()
    other = next(name for name in blank.ids if name not in ids)
    wrong: list[tuple[dict[Any, Any], str]] = [
        ({ids[1]: 1, "nobody": 1}, "'nobody' was not asked for"),
        ({ids[1]: 1, other: 1}, "was not asked for"),
        ({ids[1]: 1, ids[0]: (answers[ids[0]] + 1) % 10}, "has the label . already"),
        ({ids[1]: 10}, "is no class; they are 0 to 9"),
        ({ids[1]: True}, "is no class"),
        ({ids[1]: "clas 1"}, "Did you mean 'class 1'"),
        ({ids[1]: None}, "None, told of .* is no class"),
        ({ids[1]: [1]}, "is no class"),
        ({ids[1]: float("nan")}, "is no class"),
        ({ids[1]: float("inf")}, "is no class"),
        ({ids[1]: 1.5}, "is no class"),
        ({ids[1]: torch.tensor([1, 2])}, "is no class"),
        ({7: 1}, "7 was not asked for"),
    ]
    for labels, words in wrong:
        with pytest.raises(DataError, match=words):
            session.tell(labels)
        assert session.log.path.read_bytes() == kept


def test_a_line_that_was_cut_short_is_no_line(labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path) -> None:
    session = opened(blank, tmp_path / "run")
    ids = session.ask()
    whole = session.log.path.read_bytes()
    session.tell({ids[0]: 3})
    cut = session.log.path.read_bytes()[:-4]
    session.log.path.write_bytes(cut)
    assert session.waiting == ids
    session.tell({ids[0]: 3})
    assert session.log.path.read_bytes().startswith(whole)
    assert session.log.read()[1] == {ids[0]: 3}
    session.log.path.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(DataError, match=r"line 1 of .* is damaged"):
        session.ask()


def test_labels_that_are_there_already_are_not_asked_for(
    labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path
) -> None:
    first = opened(blank, tmp_path / "a").ask()
    targets = torch.full((len(blank),), -1)
    for row, name in enumerate(blank.ids):
        if name in first[:15]:
            targets[row] = truth(labelled, [name])[name]
    some = sartor.Pool.from_arrays(blank.inputs, targets, ids=blank.ids, classes=10, preprocess=blank.preprocess)
    assert opened(some, tmp_path / "b").ask() == first[15:]


def test_a_labelling_keeps_its_samples_in_whatever_order_they_come(
    labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path
) -> None:
    names = [f"class {label}" for label in range(10)]

    def made(order: Tensor, ids: list[str]) -> sartor.Pool:
        known = {"class_names": names, "classes": 10, "preprocess": blank.preprocess}
        return sartor.Pool.from_arrays(blank.inputs[order], ids=ids, **known)

    rows = torch.arange(len(blank))
    ids = list(blank.ids)
    first = opened(blank, tmp_path / "run")
    first.tell(truth(labelled, first.ask()))
    second = opened(made(rows.flip(0), ids[::-1]), tmp_path / "run").ask()

    with pytest.raises(DataError, match=f"began with 200 samples, of which the pool lacks 1, such as '{second[0]}'"):
        opened(blank.only(rows[torch.tensor([name != second[0] for name in ids])]), tmp_path / "run")


@pytest.mark.filterwarnings("ignore:.*learnt nothing")
def test_samples_that_come_later_change_nothing(labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path) -> None:
    """Neither what is asked nor what is learnt, though they stand among the others and change the mean of all."""
    images = digits().train
    names, measured = [f"class {label}" for label in range(10)], Preprocess((0.2,), (0.4,))
    test = sartor.Pool.from_arrays(
        images.inputs[400:450], images.targets[400:450], classes=10, preprocess=images.preprocess
    )

    def made(rows: Tensor, ids: list[str], how: Preprocess | None) -> sartor.Pool:
        return sartor.Pool.from_arrays(images.inputs[rows], ids=ids, class_names=names, classes=10, preprocess=how)

    rows = labelled.rows
    grown = made(torch.cat([torch.arange(300, 303), rows]), ["-1", "0 and a half", "new", *blank.ids], measured)
    later = sartor.Pool.from_arrays(test.inputs, test.targets, classes=10, preprocess=measured)

    def labelling(out: Path, *pools: tuple[sartor.Pool, sartor.Pool]) -> Result:
        for pool, held in pools:
            session = RECIPE.session(net(), pool, held, out=out)
            session.tell(truth(labelled, session.ask()))
        return session.finish()

    plain = labelling(tmp_path / "plain", *[(blank, test)] * 3)
    with pytest.warns(UserWarning, match="3 of the pool's 203 samples have come since .* goes on without them"):
        other = labelling(tmp_path / "grown", (blank, test), (grown, later), (grown, later))
    assert other.results["digest"] == plain.results["digest"]
    assert other.results["test_accuracy"] == plain.results["test_accuracy"]
    assert RECIPE.session(net(), blank, test, out=tmp_path / "grown").finish().results == other.results


def test_a_list_of_samples_that_is_damaged_or_gone_is_said(
    labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path
) -> None:
    first = opened(blank, tmp_path / "run").ask()
    kept = tmp_path / "run" / "samples.json"
    for damaged in ('{"ids": [1], "preprocess": null}', '{"ids": ["a"]}', "[]", "{"):
        kept.write_text(damaged)
        with pytest.raises(SartorError, match=r"samples\.json"):
            opened(blank, tmp_path / "run")
    kept.unlink()
    session = opened(blank.only(blank.rows[:150]), tmp_path / "run")
    session.tell(truth(labelled, first))
    with pytest.raises(ResumeError, match="another configuration: train was"):
        session.ask()


@pytest.mark.filterwarnings("ignore:.*learnt nothing")
def test_finishing_twice_says_nothing_new(
    labelled: sartor.Pool, blank: sartor.Pool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The network has the weights that the run gave it: that is no other network."""
    session = opened(blank, tmp_path / "run")
    while ids := session.ask():
        session.tell(truth(labelled, ids))
    first = session.finish()
    recwarn.clear()
    assert session.finish().results == first.results
    assert not recwarn.list
    other = build_model("fc(hidden=16)", classes=10, input_shape=(1, 8, 8), seed=1)
    with pytest.warns(UserWarning, match="other weights than the one that this run began with"):
        RECIPE.session(other, blank, out=tmp_path / "run").finish()


def test_a_session_refuses_what_it_cannot_do(blank: sartor.Pool, tmp_path: Path) -> None:
    unknown = sartor.Pool.from_arrays(blank.inputs, ids=blank.ids)
    with pytest.raises(ConfigError, match="how many classes"):
        opened(unknown, tmp_path / "run")
    with pytest.raises(ConfigError, match="noise makes labels wrong"):
        opened(blank, tmp_path / "run", noise=0.1)
    with pytest.raises(ConfigError, match="ask for 500 labels; the pool has 200"):
        opened(blank, tmp_path / "run", budgets="20,500")
