"""Several processes train as one does: the same subsets bit for bit, the same steps but for rounding, one folder."""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sartor.dist
from sartor.costs import Flops, Ledger
from sartor.data.formats import Splits, digits
from sartor.data.loader import Batch, Loader
from sartor.data.pool import Pool
from sartor.dist import World, joined
from sartor.models.build import build_model
from sartor.prune.rigl import RigL
from sartor.recipes import Dense, LazyProxy, SWaST
from sartor.recipes.outcome import Result
from sartor.recipes.recipe import Recipe
from sartor.registry import PRUNERS, SELECTORS
from sartor.run import Run
from sartor.scanning import FORWARD_PARTS, scan
from sartor.train import Preserved, Trainer
from sartor.types import Subset
from side_by_side import Ended, side_by_side, values

SWAST = SWaST(epochs=4, fraction=0.2, every=2, batch_size=50, pruner="rigl(every=3)", noise=0.2, probe=100)
CHOOSING = ("gradmatch", "moderate", "el2n")


@pytest.fixture(scope="module")
def splits() -> Splits:
    whole = digits()
    return dataclasses.replace(whole, train=whole.train.only(whole.train.rows[:500]))


def network(seed: int = 0) -> nn.Module:
    """A network with batch norm."""
    return build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=seed)


def plain(seed: int = 0) -> nn.Module:
    """A network without."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 10)
        )


def fit(splits: Splits, recipe: Recipe, out: Path | None, _: int = 0, *, make: Callable = network) -> Result:
    return recipe.fit(make(), splits.train, splits.test, out=out, device="cpu")


def outcome(folder: Path) -> dict:
    """All that two equal runs have in common."""
    results = json.loads((folder / "results.json").read_text())
    left = {key: value for key, value in results.items() if not key.startswith("seconds")}
    files = {path.name: path.read_bytes() for path in sorted((folder / "subsets").glob("*.json"))}
    return {"results": left, "files": files, "metrics": (folder / "metrics.jsonl").read_bytes()}


def chosen(splits: Splits, rank: int) -> list:
    """Scans and selections, each of a whole pool and of one that is too small to give every process a batch."""
    del rank
    found = []
    model = network().eval()
    with joined() as world:
        for name in CHOOSING:
            selector = SELECTORS.build(name)
            for pool in (splits.train, splits.train.only(splits.train.rows[:90])):
                seen = scan(model, pool, needs=selector.needs | FORWARD_PARTS, world=world)
                subset = selector.select(seen, 30, generator=torch.Generator().manual_seed(3))
                found.append([seen.logits, seen.features, seen.targets, subset.rows, subset.weights, seen.head_bias])
    return found


def test_several_processes_see_and_choose_exactly_what_one_does(splits: Splits) -> None:
    alone = chosen(splits, 0)
    for company in values(side_by_side(partial(chosen, splits), 3)):
        for mine, theirs in zip(alone, company, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine[:-1], theirs[:-1], strict=True))
            assert mine[-1] == theirs[-1]


STEPS = [
    (weighting, reduction, size, k)
    for weighting, reduction in (("mean", "mean"), ("batch", "sum"), ("none", "mean"))
    for size, k in ((7, 20), (3, 1), (20, 20))
]


def one_step(rank: int) -> list[list[Tensor | float]]:
    """Gradients and losses of mini-batches of many kinds, in uneven parts, some of them empty."""
    del rank
    source = torch.Generator().manual_seed(1)
    pool = Pool.from_arrays(torch.randn(40, 1, 8, 8, generator=source), torch.randint(10, (40,), generator=source))
    found: list[list[Tensor | float]] = []
    with joined() as world:
        for weighting, reduction, size, k in STEPS:
            model = plain()
            loader = Loader(pool, batch_size=size, seed=0, world=world)
            subset = Subset.of(pool.rows[:k], torch.rand(k, generator=torch.Generator().manual_seed(2)) + 0.1)
            stored = torch.randn(k, 10, generator=torch.Generator().manual_seed(4))
            preserved = Preserved(stored, stored[:, 0] > -1, 0.3, reduction)
            trainer = step_only(world, model, loader, weighting)
            for batch in loader.epoch(subset, 0):
                model.zero_grad()
                loss, _ = trainer.backward(batch, preserved)
                total = world.sum_gradients(model.parameters(), loss)
                found.append([total, batch.size, *(p.grad.clone() for p in model.parameters())])
    return found


def step_only(world: World, model: nn.Module, loader: Loader, weighting: str) -> Trainer:
    """A trainer that has what its backward pass needs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = Run(None, {}, seed=0, world=world)
    rest: dict = {"flops": Flops(0, {}), "ledger": Ledger(), "total_steps": 1, "device": torch.device("cpu"), "lr": 0.1}
    return Trainer(run=run, model=model, optimizer=optimizer, loader=loader, weighting=weighting, **rest)


@pytest.mark.parametrize("size", [2, 3])
def test_the_parts_of_a_mini_batch_add_up_to_the_loss_and_gradient_of_the_whole(size: int) -> None:
    alone = one_step(0)
    assert len(alone) == 3 * (3 + 1 + 1)
    for company in values(side_by_side(one_step, size)):
        for mine, theirs in zip(alone, company, strict=True):
            assert mine[0] == pytest.approx(theirs[0], rel=1e-5)
            assert mine[1] == theirs[1]
            for one, several in zip(mine[2:], theirs[2:], strict=True):
                torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-6)


def test_a_part_of_nothing_can_be_read_from_streamed_samples() -> None:
    class Source(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.full((3,), float(index)), index % 2

    pool = Pool.from_dataset(Source(), streamed=True)
    found: list[Batch] = []
    for rank in range(2):
        loader = Loader(pool, batch_size=1, seed=0, world=World(rank, 2))
        found += list(loader.epoch(Subset.of(pool.rows[:1]), 0))
    assert [len(batch) for batch in found] == [1, 0]
    assert [batch.size for batch in found] == [1, 1]


def results_and_more(splits: Splits, recipe: Recipe, out: Path | None, make: Callable, rank: int) -> list:
    """A whole training; each process begins with other weights and would write to a folder of its own."""
    folder = None if out is None else out / str(rank)
    result = recipe.fit(make(rank), splits.train, splits.test, out=folder, device="cpu")
    state = {name: tensor.clone() for name, tensor in result.model.state_dict().items()}
    return [result.results, state, result.metrics, result.masks.state_dict() if result.masks else {}, result.subset]


def test_a_training_by_two_is_that_by_one_but_for_rounding(splits: Splits, tmp_path: Path) -> None:
    alone = fit(splits, SWAST, None, make=plain)
    first, second = values(side_by_side(partial(results_and_more, splits, SWAST, tmp_path, plain)))
    assert first[0] == second[0]
    assert first[2] == second[2]
    assert all(torch.equal(tensor, second[1][name]) for name, tensor in first[1].items())
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(first[1][name], tensor, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(mask, alone.masks.state_dict()[name]) for name, mask in first[3].items())
    exact = ("steps", "flops", "flops_by_purpose", "samples", "epoch_equivalents", "kept_weights", "test_accuracy")
    assert {name: first[0][name] for name in exact} == {name: alone.results[name] for name in exact}
    assert first[0]["digest"]["masks"] == alone.results["digest"]["masks"]
    assert torch.equal(first[4].rows, alone.subset.rows)
    torch.testing.assert_close(first[4].weights, alone.subset.weights, rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(alone.metrics, first[2], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            close = pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value
            assert theirs[name] == close, name
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def masks_of_all(splits: Splits, rank: int) -> dict[str, list[str]]:
    """The masks of every pruner after each step and epoch; each process begins with other weights."""
    found: dict[str, list[str]] = {}
    short = SWAST.with_options(selector="random", epochs=3, evaluate_every=3, probe=0)
    for method in ("train_step", "agree"):
        setattr(Trainer, method, _then(getattr(Trainer, method), lambda t: found[spec].append(digest_of(t))))
    for name in PRUNERS:
        given = {"every": 2, "rounds": 3, "phase": 0.2, "at": 0.5, "finetune": 1, "trials": 2}
        options = [f"{option}={value}" for option, value in given.items() if option in PRUNERS.options(name)]
        spec = f"{name}({', '.join(options)})"
        found[spec] = []
        fit(splits, short.with_options(pruner=spec), None, make=partial(plain, rank))
    return found


def _then(method: Callable[..., Any], look: Callable[[Trainer], None]) -> Callable[..., Any]:
    def looked_at(trainer: Trainer, *arguments: Any, **options: Any) -> Any:
        answer = method(trainer, *arguments, **options)
        look(trainer)
        return answer

    return looked_at


def digest_of(trainer: Trainer) -> str:
    assert trainer.masks is not None
    return trainer.masks.digest()


def test_a_lazy_pair_by_two_keeps_what_one_does(splits: Splits, tmp_path: Path) -> None:
    recipe = LazyProxy(epochs=2, batch_size=50, every=3, lr=0.05, schedule="constant", fusion=True, kd=True, probe=0)
    alone = fit(splits, recipe, None, make=plain)
    first, second = values(side_by_side(partial(results_and_more, splits, recipe, tmp_path, plain)))
    assert first[0] == second[0]
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(first[1][name], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(first[1][name], second[1][name])
    exact = ("steps", "flops", "flops_by_purpose", "samples", "kept")
    assert {name: first[0][name] for name in exact} == {name: alone.results[name] for name in exact}


def test_all_processes_have_the_same_masks_after_every_step_whatever_prunes(splits: Splits) -> None:
    first, second = values(side_by_side(partial(masks_of_all, splits)))
    assert first == second
    assert {spec.partition("(")[0] for spec in first} == set(PRUNERS)
    assert all(len(digests) > 10 for digests in first.values())
    moving = {spec.partition("(")[0] for spec, digests in first.items() if len(set(digests)) > 1}
    assert moving == {"rigl", "set", "gradual", "acdc", "magnitude", "probmask"}


@pytest.mark.slow
def test_batch_norm_by_parts_trains_well_and_ends_alike_in_all_processes(splits: Splits) -> None:
    recipe = Dense(epochs=8, batch_size=50, holdout=0)
    first, second = values(side_by_side(partial(results_and_more, splits, recipe, None, network)))
    assert all(torch.equal(tensor, second[1][name]) for name, tensor in first[1].items())
    assert first[0]["test_accuracy"] == second[0]["test_accuracy"] > 0.8


def stopped(splits: Splits, out: Path, at: int, by: int, rank: int) -> dict:
    """A training of which one process gets a signal in a certain step."""
    steps = [0]

    original = Trainer.train_step

    def step(trainer: Trainer, *arguments: object) -> tuple[float, bool]:
        steps[0] += 1
        if steps[0] == at and rank == by:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(trainer, *arguments)

    Trainer.train_step = step
    return fit(splits, SWAST, out).results


@pytest.mark.parametrize("by", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_signal_to_any_process_stops_all_and_they_go_on_bit_for_bit(splits: Splits, tmp_path: Path, by: int) -> None:
    values(side_by_side(partial(fit_results, splits, SWAST, tmp_path / "unbroken")))
    for at in (2, 8, 4):  # in the warm-up, across a selection, in the last epoch
        ended = side_by_side(partial(stopped, splits, tmp_path / "run", at, by))
        assert [each.kind for each in ended] == ["Stopped", "Stopped"]
        assert ended[0].error == ended[1].error == f"stopped by SIGTERM; the state is saved in {tmp_path / 'run'}."
        assert sorted(each.told for each in ended) == [False, True]
    values(side_by_side(partial(fit_results, splits, SWAST, tmp_path / "run")))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "unbroken")
    again = values(side_by_side(partial(fit_results, splits, SWAST, tmp_path / "run")))  # it is read, not run
    assert again[0] == again[1] == json.loads((tmp_path / "run" / "results.json").read_text())


def fit_results(splits: Splits, recipe: Recipe, out: Path, rank: int) -> dict:
    return fit(splits, recipe, out, rank).results


@pytest.mark.slow
def test_a_run_may_go_on_with_another_number_of_processes(splits: Splits, tmp_path: Path) -> None:
    side_by_side(partial(stopped, splits, tmp_path / "run", 5, 0))
    with pytest.warns(UserWarning, match=r"processes 2 -> 1\); its last bits may differ"):
        results = fit(splits, SWAST, tmp_path / "run").results
    whole = fit(splits, SWAST, None).results
    assert results["steps"] == whole["steps"]
    assert results["flops"] == whole["flops"]


def disturbed(splits: Splits, what: str, rank: int) -> None:
    """A training in which process 1 goes its own way."""
    if rank == 1 and what == "weights":
        before = Trainer.agree

        def agree(trainer: Trainer) -> None:
            next(trainer.model.parameters()).data[0] += 1e-6
            before(trainer)

        Trainer.agree = agree
    if rank == 1 and what == "masks":
        RigL.moves = lambda self, step, total: False
    if rank == 1 and what == "subsets":
        type(SELECTORS.build("moderate")).select = lambda self, seen, k, **given: Subset.of(seen.rows[:k])
    if what == "configurations":
        fit(splits, SWAST.with_options(lr=0.05 + rank), None)
    fit(splits, SWAST.with_options(selector="moderate"), None)


@pytest.mark.parametrize(
    "what",
    ["weights", *(pytest.param(what, marks=pytest.mark.slow) for what in ("masks", "subsets", "configurations"))],
)
def test_a_process_that_goes_its_own_way_is_caught(splits: Splits, what: str) -> None:
    ended = side_by_side(partial(disturbed, splits, what))
    found = "weights" if what == "masks" else what  # a mask that stays leaves weights that differ
    assert [each.error.partition(";")[0] for each in ended] == [
        f"the {found} of process 1 differ from those of process 0"
    ] * 2
    assert sorted(each.told for each in ended) == [False, True]


def failing(splits: Splits, how: str, out: Path, rank: int) -> None:
    """A training that one process cannot go on with."""
    original = Trainer.train_step

    def step(trainer: Trainer, batch: Batch, *arguments: object) -> tuple[float, bool]:
        if trainer.step == 3 and rank == 1:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "error":
                raise ArithmeticError("no more")
            batch.inputs[0] = torch.nan
        return original(trainer, batch, *arguments)

    Trainer.train_step = step
    fit(splits, SWAST, out)


def ended_in_time(splits: Splits, how: str, out: Path) -> list[Ended]:
    start = time.monotonic()
    ended = side_by_side(partial(failing, splits, how, out))
    assert time.monotonic() - start < 20
    return ended


def test_an_error_in_one_process_ends_all(splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sartor.dist, "PAUSE", timedelta(seconds=0.5))
    first, second = ended_in_time(splits, "error", tmp_path / "run")
    assert (first.error, first.told) == ("process 1 failed: no more", True)
    assert (second.kind, second.error) == ("ArithmeticError", "no more")
    first, _ = ended_in_time(splits, "killed", tmp_path / "other")
    assert first.error.startswith("another process has ended without a word")
    assert not first.told


def test_a_loss_that_is_not_finite_is_told_alike_by_all(splits: Splits, tmp_path: Path) -> None:
    first, second = ended_in_time(splits, "nan", tmp_path / "run")
    assert first.kind == second.kind == "TrainingError"
    assert first.error == second.error
    assert "is nan at step 3, for the inputs of samples" in first.error
    assert sorted([first.told, second.told]) == [False, True]


def test_a_folder_of_another_configuration_is_refused_by_all(splits: Splits, tmp_path: Path) -> None:
    fit(splits, Dense(epochs=1), tmp_path / "run")
    first, second = side_by_side(partial(fit_results, splits, Dense(epochs=2), tmp_path / "run"))
    assert first.kind == "ResumeError"
    assert "epochs was 1, is now 2" in first.error
    assert second.error == f"process 0 failed: {first.error}"
    assert second.told


def test_batch_norm_of_one_sample_is_refused(splits: Splits) -> None:
    ended = side_by_side(partial(fit_results, splits, Dense(epochs=1, batch_size=3), None))
    assert ended[0].error.startswith("a process would have one sample of a mini-batch")


def asked(splits: Splits, out: Path, rank: int) -> list:
    """A training that a caller's own function stops, known to process 1 only, with a group of the caller's own."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    lines: list[dict] = []
    calls = [0]

    def stopping() -> bool:
        calls[0] += 1
        return rank == 1 and calls[0] == 12

    try:
        Dense(epochs=9, batch_size=50).fit(
            network(), splits.train, out=out, device="cpu", listener=lines.append, stopping=stopping
        )
    except Exception as error:
        return [type(error).__name__, str(error), calls[0], len(lines)]
    finally:
        dist.destroy_process_group()
    return []


@pytest.mark.slow
def test_a_script_may_have_its_own_group_and_stop_the_run_in_any_process(splits: Splits, tmp_path: Path) -> None:
    first, second = values(side_by_side(partial(asked, splits, tmp_path / "run")))
    assert first[:3] == second[:3] == ["Stopped", f"stopped; the state is saved in {tmp_path / 'run'}.", 12]
    assert (first[3], second[3]) == (1, 0)
