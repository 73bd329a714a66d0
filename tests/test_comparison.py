import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sartor.comparison import Job, load, plan_jobs, run_job, run_jobs
from sartor.errors import ConfigError, SartorError, Stopped
from sartor.recipes.arms import ARMS, DEFAULT_ARMS, EQUAL_STEPS, make_arm
from sartor.recipes.drophot import DropHot
from sartor.recipes.forecaster import Forecaster, training_size
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import SWaST

MODEL = "cnn(width=2)"
BASE = SWaST(
    epochs=4,
    batch_size=64,
    fraction=0.2,
    every=2,
    selector="moderate",
    pruner="rigl(every=3)",
    evaluate_every=100,
    probe=0,
)
BROKEN = """
def net(classes, input_shape):
    raise RuntimeError("out of memory")
"""


def plan(out: Path, base: Recipe = BASE, **options: Any) -> list[Job]:
    given: dict[str, Any] = {"arms": ["dense"], "seeds": [0], "noises": [0.0]}
    return plan_jobs(base, data="digits", root=None, model=MODEL, out=out, **{**given, **options})


def results_of(jobs: Sequence[Job], workers: int = 1) -> dict[str, dict[str, Any]]:
    """Make all runs; results by the run folder below the folder of all."""
    found = {}
    for job, outcome in run_jobs(jobs, workers):
        assert not isinstance(outcome, SartorError), outcome
        found["/".join(job.folder.parts[-3:])] = outcome
    return found


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster(load("digits", None), MODEL)


def test_a_plan_is_every_arm_seed_and_noise_once(tmp_path: Path) -> None:
    jobs = plan(tmp_path, arms=list(ARMS), seeds=range(3), noises=(0.0, 0.25), describe=lambda job: job.title)
    assert len(jobs) == len({job.folder for job in jobs}) == len(ARMS) * 3 * 2
    assert {str(job.folder.relative_to(tmp_path)) for job in jobs} == {
        f"noise-{noise}/{arm}/seed-{seed}" for noise in ("0", "0.25") for arm in ARMS for seed in range(3)
    }
    for job in jobs:
        assert job.folder == tmp_path / f"noise-{job.recipe.noise:g}" / job.labels["arm"] / f"seed-{job.recipe.seed}"
        assert job.labels["match"] == "epochs"
        assert job.labels["command"] == f"{job.labels['arm']}, noise {job.recipe.noise:g}, seed {job.recipe.seed}"
    presented = [job.cost.trained for job in jobs]
    assert presented == sorted(presented, reverse=True)
    assert list(tmp_path.iterdir()) == []


def test_the_kind_of_noise_goes_where_there_is_noise(tmp_path: Path) -> None:
    base = BASE.with_options(noise_kind="any")
    jobs = plan(tmp_path, base, arms=["swast-cut", "dense"], noises=[0, 0.25])
    assert {(job.recipe.noise, job.recipe.noise_kind) for job in jobs} == {(0, "other"), (0.25, "any")}
    with pytest.raises(ConfigError, match="noise_kind: without effect without noise"):
        run_job(plan(tmp_path, base, arms=["dense"], noises=[0])[0])
    assert not list(tmp_path.iterdir())


def test_two_at_a_time_give_what_one_at_a_time_gives(tmp_path: Path) -> None:
    options = {"arms": ["swast-cut", "redrawn"], "noises": [0.2], "seeds": [0, 1]}
    one = results_of(plan(tmp_path / "one", **options))
    two = results_of(plan(tmp_path / "two", **options), workers=2)
    assert len(one) == 4
    assert {name: results["digest"] for name, results in one.items()} == {
        name: results["digest"] for name, results in two.items()
    }
    assert len({results["digest"]["weights"] for results in one.values()}) == 4
    for name in one:
        for file in ("metrics.jsonl", "model.safetensors", "noise.json", "config.json"):
            first, second = (tmp_path / kind / name / file for kind in ("one", "two"))
            assert first.read_bytes() == second.read_bytes(), file


def test_finished_runs_are_read_not_repeated(tmp_path: Path) -> None:
    jobs = plan(tmp_path, arms=["random", "coreset-only"])
    first = results_of(jobs)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    metrics = {path: path.read_bytes() for path in tmp_path.rglob("metrics.jsonl")}
    again = results_of(plan(tmp_path, arms=["coreset-only", "random"]))
    assert again == first
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert metrics == {path: path.read_bytes() for path in tmp_path.rglob("metrics.jsonl")}
    more = results_of(plan(tmp_path, arms=["random", "coreset-only"], seeds=[0, 1]))
    assert {name: more[name] for name in first} == first
    assert len(more) == 4


def test_one_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = plan(tmp_path, arms=["dense", "random"], seeds=[0, 1])
    lost = jobs[0].folder
    lost.mkdir(parents=True)
    (lost / "thesis.txt").write_text("do not lose me")
    outcomes = {job.folder: outcome for job, outcome in run_jobs(jobs, 1)}
    assert len(outcomes) == 4
    assert isinstance(outcomes[lost], SartorError)
    assert "is no run folder" in str(outcomes[lost])
    assert [path.name for path in lost.iterdir()] == ["thesis.txt"]
    for job in jobs[1:]:
        assert outcomes[job.folder] == json.loads((job.folder / "results.json").read_text())


def test_an_error_that_nobody_foresaw_does_not_stop_the_others_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_net.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    jobs = plan(tmp_path / "runs", arms=["dense", "random"])
    jobs[0] = dataclasses.replace(jobs[0], model="broken_net:net")
    outcomes = [outcome for _, outcome in run_jobs(jobs, 1)]
    assert isinstance(outcomes[0], SartorError)
    assert "out of memory" in str(outcomes[0])
    assert not isinstance(outcomes[1], SartorError)


def test_a_stop_is_told_apart_from_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Stopped("stopped by SIGTERM; the state is saved.")

    monkeypatch.setattr(type(plan(tmp_path)[0].recipe), "fit", stopped)
    [(_, outcome)] = run_jobs(plan(tmp_path), 1)
    assert isinstance(outcome, Stopped)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "infobatch"])
def test_a_forecast_is_what_the_ledger_says(tmp_path: Path, forecaster: Forecaster, arm: str) -> None:
    [job] = plan(tmp_path, arms=[arm], noises=[0.1])
    results = run_job(job)
    assert job.cost == forecaster(job.recipe)
    assert results["flops"] == pytest.approx(job.cost.flops, rel=1e-9)
    assert results["flops_by_purpose"] == pytest.approx(job.cost.flops_by_purpose, rel=1e-9)
    ledger = json.loads((job.folder / "ledger.json").read_text())
    assert results["n"] == job.cost.n == training_size(forecaster.splits, job.recipe)
    assert (results["steps"], results["epochs"], results["k"]) == (job.cost.steps, job.cost.epochs, job.cost.k)
    assert (results["parameters"], results["kept_weights"]) == (job.cost.parameters, job.cost.kept_weights)
    assert sum(account["trained"] for account in results["samples"].values()) == job.cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == job.cost.scanned
    assert "monitor" in json.dumps(ledger)
    lines = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "selection" for line in lines) == job.cost.selections


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in (EQUAL_STEPS, "infobatch")])
def test_equal_cost_is_met_within_an_epoch(tmp_path: Path, forecaster: Forecaster, arm: str) -> None:
    """Every arm's ledger lies within one of its own full epochs (with a selection) of the target."""
    target = forecaster(make_arm("dense", BASE, training_size(forecaster.splits, BASE))).flops
    [job] = plan(tmp_path, arms=[arm], match="cost", match_arm="dense")
    assert job.folder.parts[-2] == f"{arm}@cost"
    assert job.labels["match"] == "cost"
    results = run_job(job)
    assert results["match"] == "cost"
    assert results["flops"] == pytest.approx(job.cost.flops, rel=1e-9)
    forward = forecaster.flops.masked(forecaster.counts(job.recipe).densities())
    epoch = (3 * forward + forward) * results["n"]
    assert abs(results["flops"] - target) <= epoch


def test_equal_cost_takes_the_nearest_length(forecaster: Forecaster) -> None:
    """Steps for all data without a pruner, epochs for all else."""
    n = training_size(forecaster.splits, BASE)
    target = forecaster(make_arm("swast-cut", BASE.with_options(epochs=20), n)).flops
    for arm in ("dense", "random", "redrawn", "coreset-only", "prune-only+preserve", "swast-trim"):
        recipe = make_arm(arm, BASE, n)
        chosen = forecaster.matched(recipe, target)
        length = getattr(chosen, "steps", None) or chosen.epochs
        tried = range(max(recipe.fewest_epochs, length - 25), length + 25)
        away = {other: abs(forecaster(recipe.lengthened(other)).flops - target) for other in tried}
        assert chosen == recipe.lengthened(length)
        assert away[length] == min(away.values())


def test_a_cost_out_of_reach_is_refused_before_anything_runs(tmp_path: Path) -> None:
    short = BASE.with_options(epochs=1, warmup=0, fraction=0.02, selector="random")
    with pytest.raises(ConfigError, match=r"dense cannot be run at .* FLOPs: its shortest run costs"):
        plan(tmp_path, short, arms=["dense"], match="cost")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{"arms": ["infobatch"]}, {"arms": ["dense"], "match_arm": "infobatch"}])
def test_a_cost_that_is_known_only_afterwards_cannot_be_matched(tmp_path: Path, given: dict) -> None:
    with pytest.raises(ConfigError, match="cost of infobatch depends on the losses"):
        plan(tmp_path, match="cost", **given)
    [job] = plan(tmp_path, arms=["infobatch"])
    assert job.cost.bounded
    assert run_job(job)["flops"] <= job.cost.flops


def test_unknown_arms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'coreset-only'"):
        plan(tmp_path, arms=["coreset_only"])
    assert set(DEFAULT_ARMS) <= set(ARMS)


def test_a_killed_worker_is_a_failed_run_and_the_rest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly_net.py").write_text(
        "import os, signal\n\n\ndef net(**_):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    jobs = plan(tmp_path / "runs", arms=["dense", "random", "redrawn"])
    jobs = [dataclasses.replace(job, model="deadly_net:net") for job in jobs]
    outcomes = [outcome for _, outcome in run_jobs(jobs, 2)]
    assert len(outcomes) == len(jobs)
    assert all(isinstance(outcome, SartorError) for outcome in outcomes)
    assert any("was killed" in str(outcome) for outcome in outcomes)


def test_an_arm_takes_options_in_brackets(tmp_path: Path) -> None:
    arm = "swast-cut(sparsity=0.5, preserve=none)"
    recipe = make_arm(arm, BASE, 1000)
    assert recipe == BASE.with_options(sparsity=0.5, preserve="none")
    assert make_arm("dense(lr=0.1)", BASE, 1000).lr == 0.1
    assert make_arm("coreset-only+preserve(preserve_weight=1.0)", BASE, 1000).preserve_weight == 1.0
    jobs = plan(tmp_path, arms=["swast-cut", arm])
    assert {job.folder.parent.name for job in jobs} == {"swast-cut", "swast-cut-sparsity-0.5-preserve-none"}
    assert {job.labels["arm"] for job in jobs} == {"swast-cut", arm}


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("swast-cut(sparsty=0.5)", "Did you mean 'sparsity'"),
        ("swast-cut(seed=3)", "option of swast-cut is 'seed'"),
        ("swast-cat(sparsity=0.5)", "Did you mean 'swast-cut'"),
        ("swast-cut(sparsity=1.5)", "is 1.5; it must lie in"),
        ("dense(sparsity=0.5)", "option of dense is 'sparsity'"),
    ],
)
def test_options_that_an_arm_cannot_take_are_refused(arm: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_arm(arm, BASE, 1000)


def test_an_arm_is_forecast_and_run_with_its_own_network(tmp_path: Path) -> None:
    arm = "dense(model='cnn(width=3)', epochs=1)"
    jobs = {job.labels["arm"]: job for job in plan(tmp_path, arms=["dense", arm])}
    assert {name: job.model for name, job in jobs.items()} == {"dense": MODEL, arm: "cnn(width=3)"}
    results = run_job(jobs[arm])
    assert (results["model"], results["arm"]) == ("cnn(width=3)", arm)
    assert results["parameters"] == jobs[arm].cost.parameters > jobs["dense"].cost.parameters
    assert results["flops"] == pytest.approx(jobs[arm].cost.flops, rel=1e-9)


@pytest.mark.parametrize(
    ("base", "arms"),
    [
        (PruneFuse(epochs=1, batch_size=64, budgets="40,80", probe=0), ["prunefuse", "scratch", "random"]),
        (DropHot(epochs=1, fraction=0.1, probe=0), ["random-matched", "unpruned"]),
    ],
    ids=["prunefuse", "drophot"],
)
def test_a_forecast_of_another_family_is_what_its_ledger_says(tmp_path: Path, base: Recipe, arms: list[str]) -> None:
    for job in plan(tmp_path, base, arms=arms):
        assert run_job(job)["flops"] == pytest.approx(job.cost.flops, rel=1e-9)
