import copy

import pytest
import torch
from torch import nn

from sartor.costs import Ledger, count_flops
from sartor.data.loader import Loader
from sartor.data.pool import Pool
from sartor.run import Run
from sartor.teacher import Teacher
from sartor.train import Trainer
from sartor.types import Subset


@pytest.fixture
def pool() -> Pool:
    source = torch.Generator().manual_seed(0)
    return Pool.from_arrays(torch.randn(12, 4, generator=source), torch.arange(12) % 3)


def net(seed: int) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return model


def trained(model: nn.Module, pool: Pool, teacher: Teacher | None, epochs: int = 2) -> Trainer:
    trainer = Trainer(
        run=Run(None, {}, seed=0),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loader=Loader(pool, batch_size=6, seed=0),
        flops=count_flops(model, pool.gather(pool.rows[:1])),
        ledger=Ledger(),
        total_steps=2 * epochs,
        device=torch.device("cpu"),
        lr=0.1,
        teacher=teacher,
    )
    for epoch in trainer.run.epochs(epochs, "train"):
        trainer.train_epoch(Subset.of(pool.rows), epoch, purpose="train")
    return trainer


def frozen(pool: Pool, weight: float, temperature: float = 2.0) -> Teacher:
    model = net(7)
    return Teacher(model, count_flops(model, pool.gather(pool.rows[:1])), weight, temperature)


def test_a_teacher_is_frozen_at_rest_and_charged(pool: Pool) -> None:
    teacher = frozen(pool, 0.3)
    before = copy.deepcopy(teacher.model.state_dict())
    trainer = trained(net(1), pool, teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    account = trainer.ledger.by_purpose()["distill"]
    assert (account["forward"], account["trained"]) == (24, 0)
    assert account["flops"] == 24 * teacher.flops.forward


def test_the_weight_of_the_labels_is_lambda(pool: Pool) -> None:
    alone, taught, other = net(1), net(1), net(1)
    trained(alone, pool, None)
    trained(taught, pool, frozen(pool, 1.0))
    trained(other, pool, frozen(pool, 0.3))
    same = [torch.equal(a, b) for a, b in zip(alone.parameters(), taught.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(alone[0].weight, other[0].weight)


def test_the_loss_of_a_step_is_the_stated_one(pool: Pool) -> None:
    model, teacher = net(1).eval(), frozen(pool, 0.3, 4.0)
    (batch,) = Loader(pool, batch_size=12, seed=0).epoch(Subset.of(pool.rows), 0)
    logits = model(batch.inputs)
    losses = nn.functional.cross_entropy(logits, batch.targets, reduction="none")
    found = teacher.mixed(losses, logits, batch)
    p, q = (teacher.model(batch.inputs) / 4).softmax(1), (logits / 4).softmax(1)
    by_hand = 0.3 * losses + 0.7 * 16 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)


def test_an_averaging_teacher_follows_the_student(pool: Pool) -> None:
    student = net(1)
    flops = count_flops(student, pool.gather(pool.rows[:1]))
    teacher = Teacher.averaging(student, flops, weight=0.5, temperature=1.0, decay=0.9)
    expected = student[0].weight.detach().clone()
    for step in range(1, 21):
        with torch.no_grad():
            student[0].weight.add_(1.0)
            student[1].running_mean.add_(1.0)
        teacher.follow(student)
        share = min(0.9, 1 - 1 / step)
        expected = share * expected + (1 - share) * student[0].weight.detach()
    torch.testing.assert_close(teacher.model[0].weight, expected)
    assert torch.equal(teacher.model[1].running_mean, student[1].running_mean)
    again = Teacher.averaging(net(2), flops, weight=0.5, temperature=1.0, decay=0.9)
    again.load_state_dict(teacher.state_dict())
    assert again.steps == 20
    assert again.described() == teacher.described()
