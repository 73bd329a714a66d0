import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sartor
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError, DataError, ResumeError, SartorError, Stopped, TrainingError
from sartor.models.build import build_model
from sartor.recipes import Dense, SWaST
from sartor.recipes.arms import ARMS, make_arm
from sartor.recipes.swast import NONE
from sartor.registry import SELECTORS
from sartor.run import Run

QUICK = {"epochs": 4, "batch_size": 64, "probe": 50}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def net(seed: int = 0, spec: str = "cnn(width=4)") -> nn.Module:
    return build_model(spec, classes=10, input_shape=(1, 8, 8), seed=seed)


def test_swast_keeps_its_masks_its_k_and_its_word(splits: Splits, tmp_path: Path) -> None:
    recipe = SWaST(**QUICK, fraction=0.2, every=2, selector="moderate", pruner="rigl(every=5)", noise=0.2)
    result = recipe.fit(net(), splits.train, splits.test, out=tmp_path / "run")
    n = len(splits.train) - round(0.1 * len(splits.train))
    assert result.results["n"] == n
    assert len(result.subset) == result.results["k"] == int(0.2 * n + 0.5)
    for name in result.masks.names:
        weight = dict(result.model.named_parameters())[name]
        assert not weight[~result.masks[name]].any()
    density = result.results["density_by_layer"]
    assert density["classifier.weight"] == pytest.approx(0.1, abs=0.01)
    total = sum(w.numel() for name, w in result.model.named_parameters() if name.startswith("conv"))
    backbone = [name for name in result.masks.names if not name.startswith("classifier")]
    kept = sum(result.masks.kept(name) for name in backbone)
    assert kept == int(0.3 * sum(result.masks[name].numel() for name in backbone) + 0.5)
    assert total > kept
    files = sorted(path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("."))
    assert files == [
        "SHA256SUMS",
        "checkpoints",
        "config.json",
        "ledger.json",
        "machine.json",
        "masks.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "noise.json",
        "results.json",
        "subsets",
    ]
    saved = json.loads((tmp_path / "run" / "subsets" / "epoch-0003.json").read_text())
    assert saved["ids"] == splits.train.ids_of(result.subset.rows)
    assert len(json.loads((tmp_path / "run" / "noise.json").read_text())["ids"]) == int(0.2 * n + 0.5)


def test_trim_prunes_the_classifier_only_and_whole_prunes_all(splits: Splits) -> None:
    trim = SWaST(**QUICK, variant="trim", selector="random").fit(net(), splits.train, splits.test)
    assert trim.masks.names == ("classifier.weight",)
    assert trim.masks.density() == pytest.approx(0.1, abs=0.01)
    whole = SWaST(**QUICK, variant="whole", sparsity=0.5, selector="random").fit(net(), splits.train, splits.test)
    assert whole.masks.kept() == int(0.5 * whole.masks.total() + 0.5)


def test_preservation_binds_only_where_it_is_asked_for(splits: Splits) -> None:
    base = SWaST(**QUICK, fraction=0.2, every=2, selector="moderate", pruner=NONE, preserve=NONE)
    weights = {}
    kinds = ("complete", "selective", "confident", "half")
    for kind, weight in ((NONE, 0.1), ("complete", 0.0), *((kind, 1.0) for kind in kinds)):
        recipe = base.with_options(preserve=kind, preserve_weight=weight)
        weights[kind, weight] = recipe.fit(net(), splits.train, splits.test).results["digest"]["weights"]
    assert weights[NONE, 0.1] == weights["complete", 0.0]
    assert len({weights[NONE, 0.1], *(weights[kind, 1.0] for kind in kinds)}) == 5


def test_stored_logits_are_those_of_the_network_that_selected(splits: Splits, monkeypatch) -> None:
    """The first gradient of the preservation loss after a selection is zero: the state is the stored one."""
    seen = []
    original = sartor.recipes.swast.Preserved.loss

    def watching(self, logits, batch):
        value = original(self, logits, batch)
        seen.append(float(value.detach()))
        return value

    monkeypatch.setattr(sartor.recipes.swast.Preserved, "loss", watching)
    model = build_model("fc(hidden=32)", classes=10, input_shape=(1, 8, 8), seed=0)
    recipe = SWaST(epochs=3, batch_size=2000, fraction=0.5, every=1, warmup=1, selector="moderate", preserve="complete")
    recipe.fit(model, splits.train, splits.test)
    assert len(seen) == 2
    assert all(abs(value) < 1e-6 for value in seen)


def test_a_network_without_regularisation_learns_from_its_coreset_alone(splits: Splits) -> None:
    """Rows left out of a drawn-once subset have no influence: other labels for them give the same weights."""
    recipe = Dense(epochs=3, batch_size=32, sampler="redraw(every=0)", fraction=0.3, warmup=0, holdout=0.0, probe=0)
    first = recipe.fit(net(), splits.train, splits.test)
    targets = splits.train.targets.clone()
    outside = torch.ones(len(targets), dtype=torch.bool)
    outside[first.subset.rows] = False
    targets[outside] = (targets[outside] + 1) % 10
    changed = sartor.Pool.from_arrays(
        splits.train.inputs, targets, ids=splits.train.ids, preprocess=splits.train.preprocess
    )
    second = recipe.fit(net(), changed, splits.test)
    assert first.results["digest"] == second.results["digest"]


def test_selectors_never_see_the_noise_and_the_hold_out_is_clean(splits: Splits, monkeypatch) -> None:
    spied = []
    original = SELECTORS["moderate"].select

    def spy(self, scan, k, *, generator):
        spied.append(scan)
        return original(self, scan, k, generator=generator)

    monkeypatch.setattr(SELECTORS["moderate"], "select", spy)
    recipe = SWaST(**QUICK, every=2, fraction=0.2, selector="moderate", noise=0.2)
    recipe.fit(net(), splits.train, splits.test)
    for scan in spied:
        assert set(scan.parts) <= {"features", "targets", "logits", "progress", "lr"}
        wrong = (scan.targets != splits.train.targets_of(scan.rows)).double().mean()
        assert float(wrong) == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_runs_and_its_ledger_is_its_forecast(splits: Splits, arm: str) -> None:
    from sartor.recipes.forecaster import Forecaster

    base = SWaST(**QUICK, fraction=0.2, every=2, selector="moderate", pruner="rigl(every=3)", evaluate_every=4)
    recipe = make_arm(arm, base, 1167)
    results = recipe.fit(net(), splits.train, splits.test).results
    cost = Forecaster(splits, "cnn(width=4)")(recipe)
    if cost.bounded:
        assert (arm, results["n"]) == ("infobatch", cost.n)
        assert 0.5 * cost.flops < results["flops"] <= cost.flops
        return
    assert results["flops"] == pytest.approx(cost.flops, rel=1e-12)
    assert results["flops_by_purpose"] == pytest.approx(cost.flops_by_purpose, rel=1e-12)
    assert (results["steps"], results["kept_weights"], results["n"]) == (cost.steps, cost.kept_weights, cost.n)
    assert sum(account["trained"] for account in results["samples"].values()) == cost.trained
    assert sum(account["forward"] for account in results["samples"].values()) == cost.scanned


def test_dense_steps_takes_the_steps_of_the_coreset_arm(splits: Splits) -> None:
    base = SWaST(**QUICK, fraction=0.2, every=2, selector="random")
    steps = make_arm("coreset-only", base, 1167).fit(net(), splits.train, splits.test).results["steps"]
    assert make_arm("dense-steps", base, 1167).fit(net(), splits.train, splits.test).results["steps"] == steps


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_optimisers_and_precisions(splits: Splits, optimizer: str) -> None:
    lr = 0.05 if optimizer == "sgd" else 1e-2
    for precision in ("fp32", "bf16"):
        recipe = SWaST(
            epochs=10, batch_size=32, optimizer=optimizer, lr=lr, precision=precision, fraction=0.5, every=5,
            selector="moderate", sparsity=0.3, pruner="rigl(every=10)",
        )  # fmt: skip
        result = recipe.fit(net(spec="cnn(width=8)"), splits.train, splits.test)
        assert result.test_accuracy > 0.8
        for name in result.masks.names:
            assert not dict(result.model.named_parameters())[name][~result.masks[name]].any()


def test_plain_tensors_tuples_dicts_and_datasets(splits: Splits) -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(8, 2)

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return self.head((self.left(left) + self.right(right)).relu())

    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(200, 3, generator=generator), torch.randn(200, 2, generator=generator)
    targets = (left[:, 0] + right[:, 0] > 0).long()
    recipe = SWaST(epochs=6, batch_size=20, fraction=0.4, every=2, selector="gradmatch", variant="whole", sparsity=0.2)
    for inputs in ((left, right), {"left": left, "right": right}):
        pair = (inputs, targets)
        torch.manual_seed(0)
        result = recipe.fit(TwoInputs(), pair, pair)
        assert result.test_accuracy > 0.8
    dataset = torch.utils.data.TensorDataset(left, targets)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    assert recipe.fit(model, dataset, dataset).test_accuracy > 0.6
    arrays = (np.asarray(left), np.asarray(targets))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    assert recipe.fit(model, arrays).test_accuracy is None


def test_missing_labels_are_refused_with_names(splits: Splits) -> None:
    targets = splits.train.targets.clone()
    targets[3] = -1
    pool = sartor.Pool.from_arrays(splits.train.inputs, targets, ids=splits.train.ids)
    with pytest.raises(DataError, match=splits.train.ids[3]):
        Dense(epochs=1).fit(net(), pool)
    with pytest.raises(DataError, match="no label"):
        Dense(epochs=1).fit(net(), sartor.Pool.from_arrays(splits.train.inputs))


def test_inputs_that_are_not_finite_are_named_before_anything_is_trained(splits: Splits, tmp_path: Path) -> None:
    images = splits.train.gather(splits.train.rows)
    images[17] = float("nan")
    recipe = Dense(epochs=1, batch_size=64, holdout=0.0)
    network = build_model("fc", classes=10, input_shape=(1, 8, 8), seed=0)
    with pytest.raises(DataError, match="the inputs of training samples 0017 are not finite"):
        recipe.fit(network, (images, splits.train.targets), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, r"fraction is 0; it must lie in \(0, 1\]"),
        ({"fraction": 1.5}, "Did you mean 0.15"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"selector": "moderat"}, "Did you mean 'moderate'"),
        ({"pruner": "rigl(evry=3)"}, "Did you mean 'every'"),
        ({"pruner": NONE, "sparsity": 0.5}, "without effect"),
        ({"variant": "trim", "classifier_sparsity": 0.5}, "classifier_sparsity"),
        ({"pruner": "rigl(sparsity=0.5)", "sparsity": 0.5}, "give it once"),
        ({"warmup": 300}, "warmup"),
        ({"selection_timing": "later"}, "selection_timing"),
        ({"holdout": 1.0}, "holdout"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SWaST(**options)


def test_dense_refuses_options_without_effect() -> None:
    for options in (
        {"sampler": "redraw"},
        {"fraction": 0.1},
        {"warmup": 2},
        {"steps": 5, "epochs": 7},
        {"steps": 5, "sampler": "redraw", "fraction": 0.1, "warmup": 2},
    ):
        with pytest.raises(ConfigError):
            Dense(**options)


def test_arms_leave_out_what_their_names_say() -> None:
    base = SWaST(epochs=10, fraction=0.2, every=2, sparsity=0.6, lr=0.1)
    assert make_arm("coreset-only", base, 1000).make_pruner() is None
    assert make_arm("prune-only", base, 1000).make_selector() is None
    assert make_arm("prune-only", base, 1000).make_pruner() == make_arm("swast-cut", base, 1000).make_pruner()
    assert make_arm("swast-trim", base, 1000).make_pruner().sparsity == {"classifier": 0.9}
    assert make_arm("swast-trim", base, 1000).preserves == NONE
    assert make_arm("swast-cut", base, 1000).preserves == "complete"
    for arm in ARMS:
        recipe = make_arm(arm, base, 1000)
        shared = {field.name for field in dataclasses.fields(sartor.recipes.Recipe)}
        shared -= {"epochs"} if arm == "dense-steps" else set()
        assert {name: getattr(recipe, name) for name in shared} == {name: getattr(base, name) for name in shared}


def test_every_arm_can_be_made_from_options_that_differ_from_the_defaults() -> None:
    base = SWaST(
        epochs=12, fraction=0.3, every=3, warmup=2, selection_timing="skip", head="fc", selector="el2n",
        sparsity=0.5, classifier_sparsity=0.6, preserve_weight=0.4, preserve_reduction="sum",
    )  # fmt: skip
    for arm in ARMS:
        make_arm(arm, base, 1000).timetable(1000)
    assert make_arm("prune-only", base, 1000).make_pruner() == make_arm("swast-cut", base, 1000).make_pruner()


def test_python_and_the_model_given_stay_the_users_own(splits: Splits) -> None:
    model = net()
    names, kind = list(model.state_dict()), type(model)
    before = torch.random.get_rng_state()
    SWaST(**QUICK, selector="random").fit(model, splits.train, splits.test)
    assert list(model.state_dict()) == names
    assert type(model) is kind
    assert torch.equal(torch.random.get_rng_state(), before)


class Dropping(nn.Sequential):
    """A network that draws random numbers while it trains."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))


def dropping(recipe: sartor.recipes.Recipe, splits: Splits, noise: int, **place) -> dict:
    torch.manual_seed(3)
    model = Dropping()
    torch.manual_seed(noise)
    return recipe.fit(model, splits.train, splits.test, **place).results


def test_dropout_depends_on_the_seed_alone_and_survives_a_stop(splits: Splits, tmp_path: Path) -> None:
    recipe = Dense(epochs=3, batch_size=64)
    expected = dropping(recipe, splits, 0)["digest"]
    assert dropping(recipe, splits, 1)["digest"] == expected
    steps = []

    def stop_after_20(run: Run) -> None:
        steps.append(1)
        if len(steps) == 20:
            run._stop_signal = signal.SIGTERM
        original(run)

    original = Run._save_if_due
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_save_if_due", stop_after_20)
        with pytest.raises(Stopped):
            dropping(recipe, splits, 2, out=tmp_path / "run")
    assert dropping(recipe, splits, 3, out=tmp_path / "run")["digest"] == expected
    undropped = Dropping()
    undropped[3].p = 0.0
    assert recipe.fit(undropped, splits.train, splits.test).results["digest"] != expected


def test_shared_weights_are_kept_and_come_back(splits: Splits, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.first(x.flatten(1)).relu()).relu())

    recipe = SWaST(**QUICK, selector="random", pruner="rigl(every=5)")
    first = recipe.fit(Tied(), splits.train, splits.test, out=tmp_path / "run")
    again = recipe.fit(Tied(), splits.train, splits.test, out=tmp_path / "run")
    assert torch.equal(first.model.first.weight, again.model.second.weight)
    assert first.masks.digest() == again.masks.digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0001}, "fraction 0.0001 of 1167 samples is none"),
        ({"fraction": 0.005, "selector": "gradmatch"}, "k = 6, but gradmatch needs a sample of each of the 10 classes"),
        ({"selector": "moderate", "head": "nowhere"}, "nowhere"),
        ({"pruner": "rigl(sparsity={'layer7': 0.5})"}, "layer7"),
        ({"fraction": 0.001}, "one sample, which batch norm cannot train on"),
    ],
)
def test_what_could_only_fail_after_the_warm_up_fails_before_it(
    splits: Splits, tmp_path: Path, options: dict, message: str
) -> None:
    recipe = SWaST(epochs=4, batch_size=64, **{"selector": "random", **options})
    with pytest.raises(SartorError, match=message):
        recipe.fit(net(), splits.train, splits.test, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_models_that_do_not_fit_the_data_are_refused_in_words(splits: Splits) -> None:
    cases = {
        "must make logits": build_model("cnn(width=4)", classes=9, input_shape=(1, 8, 8), seed=0),
        "cannot take sample 'train/": build_model("fc", classes=10, input_shape=(1, 9, 9), seed=0),
        "call model.float": net().double(),
        "makes tuple of one sample": Pair(),
    }
    for message, model in cases.items():
        with pytest.raises(ConfigError, match=message):
            Dense(epochs=1).fit(model, splits.train, splits.test)


class Pair(nn.Module):
    """A network that returns two things."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.head(x.flatten(1))
        return logits, logits


def test_a_head_that_hides_can_be_named(splits: Splits) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.spare = nn.Linear(64, 32), nn.Linear(32, 10), nn.Linear(32, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x.flatten(1)).relu()) / 2

    recipe = SWaST(**QUICK, selector="moderate", fraction=0.3, every=2)
    with pytest.raises(SartorError, match="head"):
        recipe.fit(Scaled(), splits.train, splits.test)
    result = recipe.with_options(head="head").fit(Scaled(), splits.train, splits.test)
    assert result.masks.densities()["head.weight"] == pytest.approx(0.1, abs=0.01)
    assert result.masks.densities()["spare.weight"] > 0.1


def test_diverging_at_the_last_step_is_no_success(splits: Splits) -> None:
    with pytest.raises(TrainingError, match=r"diverged|lower --lr"):
        Dense(epochs=1, batch_size=2000, lr=1e38).fit(net(), splits.train, splits.test)


@pytest.mark.parametrize("timing", ["at-warmup-end", "literal", "skip"])
def test_random_arms_see_as_many_samples_as_the_coreset_arms(timing: str) -> None:
    base = SWaST(epochs=40, fraction=0.1, every=10, selection_timing=timing, selector="random")
    sizes = [[slot.size for slot in make_arm(arm, base, 1000).timetable(1000)] for arm in ("coreset-only", "random")]
    redrawn = make_arm("redrawn", base, 1000).timetable(1000)
    assert sizes[0] == sizes[1] == [slot.size for slot in redrawn]
    assert [slot.draws for slot in redrawn] == [
        slot.draws for slot in make_arm("swast-cut", base, 1000).timetable(1000)
    ]


def test_reading_line_5_literally_needs_an_epoch_to_select_in() -> None:
    with pytest.raises(ConfigError, match="no coreset would be selected in fewer than 20"):
        SWaST(epochs=10, every=20, selection_timing="literal")
    assert SWaST(epochs=20, every=20, selection_timing="literal").fewest_epochs == 20


def test_another_dropout_is_another_network_and_other_first_weights_are_told(splits: Splits, tmp_path: Path) -> None:
    def net(rate: float, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(rate), nn.Linear(16, 10))

    recipe = Dense(epochs=1, probe=0)
    first = recipe.fit(net(0.5), splits.train, splits.test, out=tmp_path / "run")
    with pytest.raises(ResumeError, match="model_layers"):
        recipe.fit(net(0.1), splits.train, splits.test, out=tmp_path / "run")
    with pytest.warns(UserWarning, match="other weights than the one that this run began with"):
        again = recipe.fit(net(0.5, seed=1), splits.train, splits.test, out=tmp_path / "run")
    assert again.results == first.results
    with pytest.raises(ResumeError, match="network"):
        recipe.fit(net(0.5), splits.train, splits.test, out=tmp_path / "run", labels={"model": "net.py:other"})
