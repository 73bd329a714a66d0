import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sartor.costs import Ledger, count_flops
from sartor.data.loader import Loader
from sartor.data.pool import Pool
from sartor.prune.masks import Masks
from sartor.prune.rigl import RigL
from sartor.run import Run
from sartor.schedules import Schedule
from sartor.train import Trainer
from sartor.types import Subset


def trainer_of(model: nn.Linear, pool: Pool, *, own_lr: float = 0.5, **options) -> Trainer:
    """A trainer that takes its steps by hand, with plain sgd and all data in a batch; its own learning rate is 0.5."""
    return Trainer(
        run=Run(None, {}, seed=0),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=own_lr),
        loader=Loader(pool, batch_size=len(pool), seed=0),
        flops=count_flops(model, pool.gather(pool.rows[:1])),
        ledger=Ledger(),
        total_steps=4,
        device=torch.device("cpu"),
        lr=0.5,
        **options,
    )


def pool_of(targets: list[int], features: int) -> Pool:
    source = torch.Generator().manual_seed(0)
    return Pool.from_arrays(torch.randn(len(targets), features, generator=source), torch.tensor(targets))


@pytest.mark.parametrize("weighting", ["mean", "batch", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_label_smoothing_is_torchs_own_under_the_weights_of_the_subset(weighting: str, smoothing: float) -> None:
    pool, model = pool_of([0, 3, 1, 2, 3], 3), nn.Linear(3, 4)
    subset = Subset.of(pool.rows, torch.tensor([0.2, 3.0, 1.0, 0.7, 0.1]))
    inputs, targets, weights = pool.gather(pool.rows), pool.targets_of(pool.rows), subset.weights
    with torch.no_grad():
        log_probabilities = model(inputs).double().log_softmax(1)
    spread = (1 - smoothing) * F.one_hot(targets, 4) + smoothing / 4  # each class has its share of the smoothing
    losses = -(spread * log_probabilities).sum(1)
    by_hand = {
        "mean": (weights * losses).mean(),
        "batch": (weights * losses).sum() / weights.sum(),
        "none": losses.mean(),
    }[weighting]
    if weighting == "none":
        torch.testing.assert_close(
            losses.float(), F.cross_entropy(model(inputs), targets, reduction="none", label_smoothing=smoothing)
        )
    trainer = trainer_of(model, pool, weighting=weighting, label_smoothing=smoothing)
    (batch,) = trainer.loader.epoch(subset, 0)
    value, _ = trainer.train_step(batch)
    assert value == pytest.approx(float(by_hand), rel=1e-5)


class Skipping(RigL):
    """Lets the optimiser's second step out, and leaves everything alive."""

    def moves(self, step: int, total_steps: int) -> bool:
        return step == 1

    def update(self, masks: Masks, *, step: int, total_steps: int) -> bool:
        return step != 1


def test_a_skipped_step_counts_in_the_schedule() -> None:
    """The learning rate is that of the step at hand, also after the optimiser's step was left out."""
    model = nn.Linear(2, 2)
    schedule = Schedule("one-cycle", epochs=1, steps=4, peak_at=0.0)
    pool = pool_of([0, 1, 0], 2)
    trainer = trainer_of(model, pool, schedule=schedule, pruner=Skipping(), masks=Masks(model, {}))
    (batch,) = trainer.loader.epoch(Subset.of(pool.rows), 0)
    moved, rates = [], []
    for _ in range(4):
        before = model.weight.detach().clone()
        trainer.set_lr(0)
        trainer.train_step(batch)
        moved.append(not torch.equal(before, model.weight))
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == [0.5 * share for share in (7 / 8, 5 / 8, 3 / 8, 1 / 8)]
    assert moved == [True, False, True, True]


def test_an_optimiser_that_knows_no_initial_rate_takes_the_trainers() -> None:
    trainer = trainer_of(nn.Linear(2, 2), pool_of([0, 1], 2), own_lr=9.0, schedule=Schedule("cosine", epochs=2))
    trainer.set_lr(1)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.25)
