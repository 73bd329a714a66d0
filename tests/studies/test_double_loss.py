"""What was dropped together: replays are exact, and tracks say what a plain count says."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sartor.cli.main import main
from sartor.comparison import fit_fresh, load
from sartor.data.pool import Pool
from sartor.errors import ConfigError, SartorError
from sartor.recipes.forecaster import model_for
from sartor.recipes.swast import SWaST
from sartor.studies.double_loss import DoubleLossStudy
from sartor.studies.double_loss_arms import HOLDS, arm
from sartor.studies.double_loss_square import Square
from sartor.studies.double_loss_table import told
from sartor.studies.replaying import Coresets, followed, keep_network, replayed, spec_of
from sartor.studies.tracking import (
    KINDS,
    Trail,
    excess,
    losses_together,
    lost,
    mean_over,
    nearest,
    returns,
    supported,
    waits,
)

DATA, MODEL = "few(of=digits, samples=160)", "cnn(width=4)"
BASE = SWaST(
    epochs=6,
    batch_size=16,
    every=2,
    fraction=0.3,
    selector="gradmatch",
    preserve="none",
    sparsity=0.7,
    holdout=0.0,
    probe=0,
    evaluate_every=6,
)
PRUNER = "rigl(every=3)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, of two seeds, whose masks, coresets and networks are kept."""
    folders = []
    for seed in (0, 1):
        folders.append(tmp_path_factory.mktemp("run") / str(seed))
        recipe = BASE.with_options(seed=seed, pruner=spec_of(followed, of=PRUNER, folder=str(folders[-1])))
        listener = functools.partial(keep_network, folders[-1])
        fit_fresh(recipe, DATA, None, MODEL, folders[-1], labels={}, listener=listener)
    return folders


def repeated(coresets: Path, masks: Path, seed: int, out: Path) -> dict:
    recipe = BASE.with_options(
        selector=spec_of(Coresets, folder=str(coresets), epochs=6, data=DATA),
        pruner=spec_of(replayed, of=PRUNER, folder=str(masks), seed=int(masks.name)),
    )
    return fit_fresh(recipe.with_options(seed=seed), DATA, None, MODEL, out, labels={}).results


def test_a_run_repeated_by_its_own_coresets_and_masks_is_the_run(runs: list[Path], tmp_path: Path) -> None:
    first = json.loads((runs[0] / "results.json").read_text())
    again = repeated(runs[0], runs[0], 0, tmp_path / "own")
    assert again["digest"] == first["digest"]
    assert again["samples"].get("select", {}).get("forward", 0) == 0, "nothing is looked at"
    assert again["flops"] < first["flops"], "nor is the dense gradient asked for"


def test_swaps_take_the_others(runs: list[Path], tmp_path: Path) -> None:
    first, other = (json.loads((run / "results.json").read_text())["digest"] for run in runs)
    swapped = repeated(runs[1], runs[0], 0, tmp_path / "coresets")["digest"]
    assert swapped["subset"] == other["subset"] != first["subset"]
    assert swapped["masks"] == first["masks"]
    swapped = repeated(runs[0], runs[1], 0, tmp_path / "masks")["digest"]
    assert (swapped["subset"], swapped["masks"]) == (first["subset"], other["masks"])


def test_what_cannot_be_replayed_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="masks can be followed of rigl and set"):
        followed(of="magnitude", folder="x", sparsity=0.5)
    (tmp_path / "0").mkdir()
    with pytest.raises(SartorError, match="chose nothing then"):
        repeated(tmp_path / "0", runs[0], 0, tmp_path / "a")
    with pytest.raises(SartorError, match=r"step-000003.*cannot be read"):
        repeated(runs[0], tmp_path / "0", 0, tmp_path / "b")
    wrong = BASE.with_options(selector=spec_of(Coresets, folder=str(runs[0]), epochs=6, data=DATA), fraction=0.2)
    with pytest.raises(SartorError, match="wanted are"):
        fit_fresh(wrong.with_options(warmup=1), DATA, None, MODEL, tmp_path / "c", labels={})


def test_a_trail_has_the_masks_and_networks_of_every_selection(runs: list[Path]) -> None:
    trail = Trail(runs[0], load(DATA, None).train)
    assert trail.epochs == [1, 3, 5]
    assert trail.steps == [0, 10, 13, 16, 19, 22, 25]
    assert list(trail.moves) == [0, 3, 6, 9, 12, 15, 18]
    assert len(trail.masks) == 4
    at_start, end = trail.masks[0], trail.masks[-1]
    assert all(torch.equal(at_start[name], trail.moves[9][name]) for name in at_start)
    assert all(torch.equal(end[name], trail.moves[18][name]) for name in end)
    from safetensors.torch import load_file

    last = load_file(runs[0] / "masks.safetensors")
    assert all(torch.equal(end[name], last[name]) for name in last)
    network = load_file(runs[0] / "seen/epoch-0001.safetensors")
    assert all(not network[name][~mask].any() for name, mask in at_start.items())


def test_who_holds_a_weight() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    pool = Pool.from_arrays(torch.randn(9, 1, 2, 2), torch.arange(9) % 3)
    held = supported(model, pool, torch.tensor([2, 5, 7]), ["1.weight"])["1.weight"]
    count = torch.zeros(3, 4)
    for row in (2, 5, 7):
        one = torch.tensor([row])
        model.zero_grad()
        F.cross_entropy(model(pool.gather(one)), pool.targets_of(one)).backward()
        grown = model[1].weight.detach() - 1e-3 * model[1].weight.grad
        count += grown.abs() > model[1].weight.detach().abs()
    assert torch.equal(held, count / 3)


def test_tracks_of_a_run_held_against_itself_and_another(runs: list[Path]) -> None:
    splits = load(DATA, None)
    own, other = (Trail(run, splits.train) for run in runs)
    network = model_for(splits, MODEL)
    alike = losses_together(own, own, network, probe=20, seed=0)
    assert alike["lean"] == alike["swapped masks"] == alike["swapped coresets"]
    found = losses_together(own, other, network, probe=20, seed=0)
    assert found["dead"] == alike["dead"]
    assert found["lean"] == alike["lean"] != alike["dead"]
    assert len({found[kind] for kind in ("lean", "swapped masks", "swapped coresets")}) == 3
    assert set(found) == set(KINDS)
    none_in_both = Trail(runs[1], splits.train)
    never = [{name: torch.zeros_like(mask) for name, mask in layers.items()} for layers in other.living]
    none_in_both.__dict__["living"] = never
    alone = losses_together(own, none_in_both, network, probe=20, seed=0)
    assert set(alone.values()) == {None}, "weights that never lived in the other run did not survive in both"
    back = returns(own)
    assert 0 <= (back["weights back"] or 0) <= 100
    assert back["samples back after"] in (2.0, 4.0)


def test_weights_that_die_and_grow_again_before_the_next_selection_have_not_lived_on(runs: list[Path]) -> None:
    trail = Trail(runs[0], load(DATA, None).train)
    name = next(iter(trail.moves[0]))
    for number, (start, stop) in enumerate(((10, 16), (16, 22), (22, 25))):
        assert trail.bounds[number : number + 2] == [start, stop]
        expected = trail.masks[number][name].clone()
        for step, masks in trail.moves.items():
            if start <= step < stop:
                expected &= masks[name]
        assert torch.equal(trail.living[number][name], expected)
    moves = {0: [True, True, True], 12: [True, False, False], 15: [True, True, False], 16: [False, True, True]}
    trail = Trail(runs[0], trail.pool)
    trail.__dict__["moves"] = {step: {"w": torch.tensor(mask)} for step, mask in moves.items()}
    assert [layers["w"].tolist() for layers in trail.living[:2]] == [[True, False, False], [False, True, False]]


def test_weights_alike_are_of_the_same_layer_and_the_nearest_magnitude() -> None:
    assert nearest(torch.tensor([0.0, 1.4, 1.5, 9.0]), torch.tensor([2.0, 1.0, 4.0])).tolist() == [1, 1, 1, 2]
    weights = {"a": torch.tensor([0.1, -0.2, 5.0, -0.3]), "b": torch.tensor([0.1, 0.2])}
    values = {"a": torch.tensor([1.0, 0.25, 9.0, 0.5]), "b": torch.tensor([7.0, 8.0])}
    dead = {"a": torch.tensor([True, False, False, True]), "b": torch.tensor([True, False])}
    kept = {"a": torch.tensor([False, True, True, False]), "b": torch.tensor([False, False])}
    assert excess(values, dead, kept, weights) == (1.0 - 0.25 + 0.5 - 0.25) / 2, "layer b has nothing to compare"
    none = {name: torch.zeros_like(mask) for name, mask in dead.items()}
    assert excess(values, none, kept, weights) is None
    assert excess(values, dead, none, weights) is None


def test_intervals_in_which_nothing_died_are_left_out_of_all_kinds(runs: list[Path]) -> None:
    own, other = (Trail(run, load(DATA, None).train) for run in runs)
    network = model_for(load(DATA, None), MODEL)
    first = losses_together(own, other, network, probe=20, seed=0)
    own.__dict__["living"] = [*own.living, own.masks[-1]]
    other.__dict__["living"] = [*other.living, other.masks[-1]]
    own.__dict__["epochs"] = [*own.epochs, own.epochs[-1]]
    own.__dict__["coresets"] = [*own.coresets, own.coresets[-1]]
    for trail in (own, other):
        trail.__dict__["masks"] = [*trail.masks, trail.masks[-1]]
    other.__dict__["coresets"] = [*other.coresets, other.coresets[-1]]
    assert losses_together(own, other, network, probe=20, seed=0) == first


def test_how_long_what_left_was_away() -> None:
    present = [torch.tensor(row, dtype=torch.bool) for row in ([1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1])]
    assert waits(present, [0.0, 1.0, 3.0, 7.0]) == (3, [2.0, 6.0, 4.0])
    before, after = {"w": torch.tensor([True, True, False])}, {"w": torch.tensor([True, False, True])}
    assert lost(before, after)["w"].tolist() == [False, True, False]
    assert mean_over({"w": torch.tensor([1.0, 2.0, 4.0])}, before) == 1.5
    assert mean_over({"w": torch.tensor([1.0])}, {"w": torch.tensor([False])}) is None


def row(accuracy: float, **where: object) -> dict:
    plain = {"selector": "el2n", "fraction": 0.1, "sparsity": 0.9, "hold": "none", "coresets": "own", "masks": "own"}
    return plain | {"test_accuracy": accuracy} | where


def test_differences_of_differences() -> None:
    results = []
    for seed, shift in ((0, 0.0), (1, 0.01)):
        corners = {("el2n", 0.9): 0.5 + shift, ("el2n", None): 0.9, ("random", 0.9): 0.8, ("random", None): 0.95}
        results += [row(a, selector=s, sparsity=p, seed=seed) for (s, p), a in corners.items()]
        swaps = {("swapped", "own"): 0.45, ("own", "swapped"): 0.4, ("swapped", "swapped"): 0.3}
        results += [row(a, coresets=c, masks=m, seed=seed) for (c, m), a in swaps.items()]
    square = Square(results, "el2n", 0.1, 0.9)
    assert square.collapse() == {0: -25.0, 1: -24.0}
    assert square.pairing() == {0: -2.5, 1: -2.0}, "two of the four pairs come from one run"
    assert Square(results, "el2n", 0.2, 0.9).pairing() == {}


def grid(loss: float) -> list[dict]:
    """All runs of two squares, in which pruning takes `loss` more of chosen samples than of random ones."""
    numbers = (*KINDS, "weights back", "samples back")
    tracks = dict.fromkeys((*numbers, "weights back after", "samples back after"), 1.0)
    rows = []
    for selector, sparsity, seed in itertools.product(("el2n", "random"), (None, 0.9), range(3)):
        swaps = [("own", "own")] if sparsity is None else list(itertools.product(("own", "swapped"), repeat=2))
        where = [(hold, "own", "own") for hold in HOLDS[sparsity is None]] + [("none", *swap) for swap in swaps[1:]]
        accuracy = 0.9 - (0.01 * seed if sparsity else 0) - (loss if sparsity and selector == "el2n" else 0)
        more = {"selector": selector, "sparsity": sparsity, "seed": seed, "classes": 10, "flops": 2.0, **tracks}
        rows += [row(accuracy, **more, hold=h, coresets=c, masks=m) for h, c, m in where]
    return rows


def test_the_verdict_says_of_a_collapse_that_it_is_one() -> None:
    rows = grid(loss=0.1)
    found = told([Square(rows, selector, 0.1, 0.9) for selector in ("el2n", "random")], 3, 0.5)
    said = next(line for line in found.verdict if "collapse" in line)
    assert said.endswith(" Shown are el2n, 0.1 of the data, 0.9 pruned: -10.00 (-10.00 to -10.00).")
    assert not any("Loss by pruning" in line for line in found.verdict)
    assert all(line["pruned, FLOPs"] == 2 for line in found.tables[2].rows)
    assert found.tables[2].rows[-1]["all weights, FLOPs"] is None, "first weights are scaled where some are missing"


@pytest.mark.parametrize("pruner", ["rigl(every=5)", "set(distribution='uniform')"])
def test_acdc_leaves_each_layer_what_the_pruner_beside_it_leaves(pruner: str) -> None:
    study, kept = DoubleLossStudy(pruner=pruner), []
    for hold in ("none", "AC/DC"):
        made = arm(study, "el2n", 0.2, 0.9, hold).make_pruner()
        assert made is not None
        network = model_for(load(DATA, None), MODEL)
        kept.append(made.init(network, generator=torch.Generator().manual_seed(0)).counts.goal)
    assert kept[0] == kept[1]
    assert arm(study, "el2n", 0.2, 0.9, "AC/DC").pruner.startswith("acdc(")


def test_remedies_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "double-loss", "--data", "few(of=digits, samples=120)", "--model", "cnn(width=2)", "--seeds", "2"]
    words += ["--epochs", "4", "--batch-size", "40", "--every", "2", "--fractions", "0.5", "--selectors", "el2n"]
    words += ["--pruner", "rigl(every=2)", "--probe", "5", "--out", str(tmp_path), "--holds", "none"]
    assert main(words) == 0, capsys.readouterr().err
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert {cell["hold"] for cell in cells} == {"none"}
    assert len(cells) == 2 * 2 * (2 + 3), "with all and with pruned weights, and three swaps"
    table = (tmp_path / "table.md").read_text()
    assert "Remedies minus none" not in table
    assert "Worth of coresets and masks from one run" in table
    assert main([*words, "--holds", "ema"]) == 2
    assert "holds is 'ema'; it must be one of none, selective" in capsys.readouterr().err


def changed(rows: list[dict], by: float, **where: object) -> list[dict]:
    """Return the rows with another accuracy where they are as is said."""
    return [
        {**row, "test_accuracy": row["test_accuracy"] + by * (all(row[name] == value for name, value in where.items()))}
        for row in rows
    ]


def sentence(rows: list[dict], begin: str) -> str:
    """Return the entry of the verdict that begins so."""
    said = told([Square(rows, selector, 0.1, 0.9) for selector in ("el2n", "random")], 3, 0.5).verdict
    return next(line for line in said if line.startswith(begin))


def test_what_replayed_masks_cost_is_no_double_loss() -> None:
    """The run itself drops what is small where it is dropped, for random samples too: that cancels out."""
    swapped = [{"coresets": c, "masks": m} for c, m in (("swapped", "own"), ("own", "swapped"), ("swapped", "swapped"))]
    costly = grid(loss=0.0)
    for where in swapped:
        costly = changed(costly, -0.03, **where)
    begin = "Worth of coresets and masks from one run, minus that of random samples"
    assert "are all of them" in sentence(costly, begin)
    real = changed(costly, -0.04, selector="el2n", coresets="own", masks="own", hold="none", sparsity=0.9)
    assert sentence(real, begin).endswith("-2.00 (-2.00 to -2.00).")


def test_a_remedy_is_credited_with_what_it_does_to_pruned_weights_and_chosen_samples_alone() -> None:
    begin, everywhere = "What a remedy takes off the collapse", changed(grid(loss=0.1), 0.05, hold="complete")
    assert "0 above 0, 0 below 0" in sentence(everywhere, begin)
    there = changed(grid(loss=0.1), 0.05, hold="complete", selector="el2n", sparsity=0.9)
    shown = " Shown are complete, el2n, 0.1 of the data, 0.9 pruned: +5.00 (+5.00 to +5.00)."
    assert sentence(there, begin).endswith(shown)
