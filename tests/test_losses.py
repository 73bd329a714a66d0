import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.losses import correct, distillation, preserved, state_preservation, weighted_mean


def test_weighted_mean_by_hand() -> None:
    losses, weights = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2.0, 0.5, 1.0])
    assert weighted_mean(losses, weights, "mean").item() == pytest.approx((2 + 1 + 6) / 3)
    assert weighted_mean(losses, weights, "batch").item() == pytest.approx(9 / 3.5)
    assert weighted_mean(losses, weights, "none").item() == pytest.approx(3)


def test_the_mean_is_unbiased_over_the_mini_batches_of_a_subset() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(12, generator=generator)
    weights = torch.rand(12, generator=generator)
    weights /= weights.mean()
    whole = (weights * losses).mean()
    parts = [weighted_mean(losses[i : i + 4], weights[i : i + 4], "mean") for i in (0, 4, 8)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_state_preservation_is_the_forward_divergence_stored_first() -> None:
    stored, logits = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]])
    # stored = (1/4, 3/4), now = (1/2, 1/2): KL = 1/4 ln(1/2) + 3/4 ln(3/2)
    by_hand = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert state_preservation(logits, stored).item() == pytest.approx(by_hand, rel=1e-5)
    assert state_preservation(stored, logits).item() != pytest.approx(by_hand, rel=1e-2)


@given(b=st.integers(1, 6), c=st.integers(2, 5), seed=st.integers(0, 99))
def test_state_preservation_equals_a_loop(b: int, c: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, stored = torch.randn(b, c, generator=generator) * 5, torch.randn(b, c, generator=generator) * 5
    keep = torch.rand(b, generator=generator) < 0.5
    total = 0.0
    for i in range(b):
        if keep[i]:
            p, q = stored[i].double().softmax(0), logits[i].double().softmax(0)
            total += sum(float(p[j] * (p[j].log() - q[j].log())) for j in range(c))
    assert state_preservation(logits, stored, keep, reduction="sum").item() == pytest.approx(total, rel=1e-4, abs=1e-5)
    assert state_preservation(logits, stored, keep).item() == pytest.approx(total / b, rel=1e-4, abs=1e-5)


def test_state_preservation_pulls_towards_the_stored_state_only() -> None:
    stored = torch.tensor([[2.0, -1.0, 0.5]])
    logits = torch.zeros(1, 3, requires_grad=True)
    state_preservation(logits, stored).backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(1) - stored.softmax(1))
    same = stored.clone().requires_grad_()
    state_preservation(same, stored).backward()
    assert same.grad.abs().max() < 1e-6


def test_correct() -> None:
    logits = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    assert correct(logits, torch.tensor([1, 1])).tolist() == [True, False]


def test_distillation_by_hand() -> None:
    logits, taught = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    losses = torch.tensor([5.0, 7.0])
    found = distillation(losses, logits, taught, weight=0.3, temperature=4.0)
    p, q = (taught[0] / 4).softmax(0), (logits[0] / 4).softmax(0)
    apart = float((p * (p / q).log()).sum())
    assert found[0].item() == pytest.approx(0.3 * 5 + 0.7 * 16 * apart, rel=1e-5)
    assert found[1].item() == pytest.approx(0.3 * 7, rel=1e-6)
    assert torch.equal(distillation(losses, logits, taught, weight=1.0, temperature=2.0), losses)


def test_whose_states_are_held() -> None:
    logits = torch.tensor([[5.0, 0.0], [0.0, 1.0], [0.1, 0.0], [0.0, 4.0], [0.2, 0.0]])
    targets = torch.tensor([0, 0, 0, 0, 1])

    def held(which: str, seed: int = 0) -> list[int] | None:
        keep = preserved(which, logits, targets, torch.Generator().manual_seed(seed))
        return None if keep is None else keep.nonzero().flatten().tolist()

    assert held("complete") is None
    assert held("selective") == [0, 2]
    assert held("confident") == [0, 3], "the two most certain of five, right or wrong"
    halves = [held("half", seed) for seed in range(20)]
    assert {len(half) for half in halves if half is not None} == {2}
    assert {row for half in halves if half is not None for row in half} == set(range(5))
    assert held("half", 3) == held("half", 3)
