"""Numbers that are none, and sets that are too small: refused or named, with the last checkpoint from before."""

import math
from pathlib import Path

import pytest
import torch
from tiny import RECIPE, covers, fit, network, notes, one_line, splits
from torch import nn

from sartor.data.formats import Splits
from sartor.data.pool import Pool
from sartor.errors import ConfigError, DataError, SartorError, SelectionError, TrainingError
from sartor.recipes import Dense, SWaST
from sartor.recipes.recipe import Recipe
from sartor.run_folder import read_checkpoint
from sartor.select import GradMatch
from sartor.train import Trainer

DENSE = Dense(epochs=3, batch_size=16, probe=0)


def train(recipe: Recipe, data: Splits, folder: Path | None, model: nn.Module | None = None, **options: object) -> dict:
    model = network() if model is None else model
    return recipe.fit(model, data.train, data.test, out=folder, save_every=0.0, **options).results


def arrays(train: torch.Tensor, test: torch.Tensor | None = None) -> Splits:
    """The first digits as floating-point arrays."""
    data = splits()
    made = Pool.from_arrays(train, data.train.targets_of(data.train.rows), classes=10)
    held = data.test.gather(data.test.rows) if test is None else test
    return Splits(
        "digits", made, Pool.from_arrays(held, data.test.targets_of(data.test.rows), classes=10), data.augment
    )


def images(part: str = "train") -> torch.Tensor:
    pool = getattr(splits(), part)
    return pool.gather(pool.rows).clone()


def check_saved(folder: Path, steps: int) -> dict:
    """The last checkpoint is whole, from before the fault, and holds numbers only."""
    state = read_checkpoint(folder / "checkpoints" / "last.pt")
    assert state["tracked"]["trainer"]["step"] == steps
    assert all(tensor.isfinite().all() for tensor in state["tracked"]["model"].values())
    return state


@covers("NaN or infinity in the inputs")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["train", "test"])
def test_inputs_in_memory(tmp_path: Path, part: str, value: float) -> None:
    """Found before anything is trained, also in the test set: else only the end would tell."""
    spoilt = images(part)
    spoilt[7, 0, 3, 3] = value
    data = arrays(spoilt) if part == "train" else arrays(images(), spoilt)
    kind = "training" if part == "train" else "test"
    with pytest.raises(
        DataError, match=f"the inputs of {kind} samples 0*7 are not finite; mend them or leave"
    ) as caught:
        train(DENSE, data, tmp_path / "run")
    one_line(caught.value)
    assert not (tmp_path / "run").exists()


@covers("NaN or infinity in the inputs")
def test_inputs_that_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """Batch norm spreads one sample's NaN over its whole mini-batch; the sample is named all the same."""
    spoilt, labels = images(), splits().train.targets_of(splits().train.rows)
    spoilt[7, 0, 3, 3] = math.nan
    pool = Pool.from_dataset([(x, int(y)) for x, y in zip(spoilt, labels)], classes=10, streamed=True)
    data = Splits("digits", pool, splits().test, splits().augment)
    with pytest.raises(
        TrainingError, match=r"for the inputs of samples 0*7 are not finite; mend them or leave"
    ) as caught:
        train(DENSE.with_options(holdout=0.0), data, tmp_path / "run")
    assert "The last checkpoint was taken before this step." in one_line(caught.value)


class Diverging(nn.Sequential):
    """A network whose loss, or only the gradient of it, is no number from a certain training step on."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.at, self.what, self.steps = at, what, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        if self.training:
            self.steps += 1
        if self.training and self.steps == self.at:
            if self.what == "loss":
                return logits * math.nan
            logits.register_hook(lambda gradient: gradient * math.nan)
        return logits


@covers("a loss that is not finite")
def test_a_loss(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss of samples .+ is nan at step 6; lower --lr") as caught:
        train(DENSE, splits(), tmp_path / "run", Diverging(7, "loss"))
    assert "The last checkpoint was taken before this step." in one_line(caught.value)
    check_saved(tmp_path / "run", 6)


@covers("a gradient that is not finite")
def test_a_gradient_whose_loss_was_finite(tmp_path: Path) -> None:
    """The weights it leaves are never saved."""
    with pytest.raises(TrainingError, match=r"1\.weight is not finite after step 7, whose gradient was not") as caught:
        train(DENSE, splits(), tmp_path / "run", Diverging(7, "gradient"))
    assert "lower --lr. The last checkpoint was taken before this step." in one_line(caught.value)
    check_saved(tmp_path / "run", 6)


@covers("a gradient that is not finite")
def test_a_gradient_at_the_last_step(tmp_path: Path) -> None:
    steps = 3 * 9
    with pytest.raises(TrainingError, match=f"is not finite after step {steps}"):
        train(DENSE, splits(), tmp_path / "run", Diverging(steps, "gradient"))
    assert not (tmp_path / "run" / "results.json").exists()
    check_saved(tmp_path / "run", steps - 1)


@covers("a learning rate that explodes")
@pytest.mark.parametrize("lr", [1e6, 1e20, 1e38])
def test_a_learning_rate_that_explodes(tmp_path: Path, lr: float) -> None:
    deep = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    with pytest.raises(SartorError, match=r"[Ll]ower --lr|diverged") as caught:
        train(RECIPE.with_options(lr=lr), splits(), tmp_path / "run", deep)
    one_line(caught.value)
    assert not (tmp_path / "run" / "results.json").exists()
    if (tmp_path / "run" / "checkpoints").exists():
        state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
        assert all(tensor.isfinite().all() for tensor in state["tracked"]["model"].values())


@covers("weights that are not finite at a selection")
def test_weights_at_a_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.scan

    def spoilt(trainer: Trainer, *given: object, **options: object) -> object:
        with torch.no_grad():
            next(trainer.model.parameters()).fill_(math.nan)
        return original(trainer, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "scan", spoilt)
        with pytest.raises(SelectionError, match=r"are not finite; the network has diverged") as caught:
            fit(tmp_path / "run")
    one_line(caught.value)
    check_saved(tmp_path / "run", 9)


@covers("a selector that fails")
def test_a_selector_whose_error_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last checkpoint is from before the selection, and the run goes on once it is mended."""
    from tiny import outcome, unbroken

    with monkeypatch.context() as patch:
        patch.setattr(GradMatch, "select", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path / "run")
    check_saved(tmp_path / "run", 9)
    fit(tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken()


def labelled(labels: list[int], classes: int | None = 10) -> Pool:
    generator = torch.Generator().manual_seed(0)
    return Pool.from_arrays(
        torch.rand(len(labels), 1, 8, 8, generator=generator), torch.tensor(labels), classes=classes
    )


@covers("a class without samples, or with one")
@pytest.mark.parametrize("selector", ["gradmatch", "moderate", "el2n", "random"])
@pytest.mark.parametrize("holdout", [0.0, 0.1])
def test_classes_without_samples_and_with_one(tmp_path: Path, selector: str, holdout: float) -> None:
    labels = [0] * 30 + [1] * 20 + [2, 3] + [5] * 8
    recipe = RECIPE.with_options(selector=selector, holdout=holdout, noise=0.0, fraction=0.5)
    result = recipe.fit(network(), labelled(labels), labelled([0, 1, 9]), out=tmp_path / "run")
    assert len(result.subset) == result.results["k"]
    assert result.results["test_accuracy"] is not None


@covers("a subset smaller than the number of classes, or of one sample")
def test_a_subset_of_fewer_samples_than_classes(tmp_path: Path) -> None:
    few = RECIPE.with_options(fraction=0.03)
    with notes() as lines:
        result = few.with_options(selector="el2n").fit(network(), splits().train, splits().test, out=tmp_path / "run")
    assert len(result.subset) == 4
    assert lines == []
    with pytest.raises(
        SelectionError, match=r"needs a sample of each of the 10 classes; use a larger --fraction"
    ) as caught:
        train(few, splits(), tmp_path / "other")
    one_line(caught.value)
    assert not (tmp_path / "other").exists()


@covers("a subset smaller than the number of classes, or of one sample", "a mini-batch of one sample")
def test_a_subset_of_one_sample(tmp_path: Path) -> None:
    one = RECIPE.with_options(fraction=0.01, selector="random", pruner="none", preserve="none", noise=0.0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = one.fit(model, splits().train, splits().test, out=tmp_path / "run")
    assert len(result.subset) == 1
    with pytest.raises(
        ConfigError, match="a mini-batch would hold one sample, which batch norm cannot train on"
    ) as caught:
        train(one, splits(), tmp_path / "other", nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)))
    one_line(caught.value)
    assert not (tmp_path / "other").exists()
    with pytest.raises(SelectionError, match=r"fraction 0\.001 of 144 samples is none; use a larger --fraction"):
        train(one.with_options(fraction=0.001), splits(), tmp_path / "none")


@covers("a mini-batch of one sample")
def test_there_is_no_last_batch_of_one(tmp_path: Path) -> None:
    """17 samples in batches of 16: one batch of 17, not 16 and 1."""
    data = labelled([0, 1] * 8 + [1])
    results = Dense(epochs=2, batch_size=16, holdout=0.0).fit(network(), data, out=tmp_path / "run").results
    assert results["steps"] == 2


@covers("a batch larger than the data set")
@pytest.mark.parametrize("size", [1000, 10**9])
def test_a_batch_larger_than_the_data_set(tmp_path: Path, size: int) -> None:
    results = train(RECIPE.with_options(batch_size=size), splits(), tmp_path / "run")
    assert results["steps"] == 4


@covers("labels that do not fit")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 12] * 10, r"12"),
        ([0, 1, -1] * 10, r"have no label"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: list[int], message: str) -> None:
    with pytest.raises(SartorError, match=message) as caught:
        SWaST(epochs=4).fit(network(), labelled(labels), out=tmp_path / "run")
    one_line(caught.value)
    assert not (tmp_path / "run").exists()
