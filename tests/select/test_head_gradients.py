"""Gradients in factored form are those of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference.gradmatch import built_gradients
from sartor.data.pool import Pool
from sartor.scanning import scan
from sartor.seen import Scan
from sartor.select.head_gradients import HeadGradients


@pytest.mark.parametrize("bias", [True, False])
def test_they_are_what_autograd_finds_whatever_the_batch(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=bias))
    pool = Pool.from_arrays(torch.randn(11, 5), torch.randint(3, (11,)))
    seen = scan(model, pool, needs={"logits", "features", "targets"}, batch_size=4)
    assert seen.head_bias is bias
    gradients = HeadGradients.of(seen, torch.arange(11))
    head = model[2]
    for i in range(11):
        model.zero_grad()
        nn.functional.cross_entropy(
            model(pool.gather(pool.rows[i : i + 1])), pool.targets_of(pool.rows[i : i + 1])
        ).backward()
        expected = head.weight.grad if not bias else torch.cat([head.weight.grad, head.bias.grad[:, None]], dim=1)
        single = HeadGradients(gradients.errors[i : i + 1], gradients.inputs[i : i + 1]).total()
        torch.testing.assert_close(single.float(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_products_norms_and_sums_are_those_of_the_built_gradients(bias):
    torch.manual_seed(1)
    made = Scan.from_arrays(
        logits=torch.randn(9, 3), features=torch.randn(9, 4), targets=torch.zeros(9, dtype=torch.int64), head_bias=bias
    )
    gradients = HeadGradients.of(made, torch.arange(9))
    built = torch.from_numpy(built_gradients(made.errors(slice(None)), made.features, bias=bias))
    gram = built @ built.T
    rows, columns = torch.tensor([2, 5]), torch.tensor([0, 2, 8])
    torch.testing.assert_close(gradients.norms(), built.norm(dim=1))
    torch.testing.assert_close(gradients.gram(rows, columns), gram[rows][:, columns])
    torch.testing.assert_close(gradients.columns(columns).double(), gram[columns], rtol=1e-5, atol=1e-5)
    weights = torch.rand(9, dtype=torch.float64)
    torch.testing.assert_close(gradients.total(weights).flatten(), weights @ built)
    torch.testing.assert_close(gradients.towards(gradients.total()), built @ built.sum(0))


def test_large_classes_go_by_blocks_to_the_same_result():
    torch.manual_seed(2)
    gradients = HeadGradients(torch.randn(5000, 2), torch.randn(5000, 3))
    total = gradients.errors.double().T @ gradients.inputs.double()
    torch.testing.assert_close(gradients.total(), total)
    along = (gradients.errors.double() @ total * gradients.inputs.double()).sum(1)
    torch.testing.assert_close(gradients.towards(total), along)


def test_twins_have_the_same_errors_and_inputs():
    errors = torch.tensor([[1.0], [2], [1], [1], [2]])
    inputs = torch.tensor([[3.0, 0], [3, 0], [3, 0], [4, 0], [3, 0]])
    assert HeadGradients(errors, inputs).first_twins().tolist() == [0, 1, 0, 3, 1]


def test_gradients_are_never_built():
    """A class whose built gradients would take 80 GB is matched all the same."""
    n, c, d = 1000, 4000, 5000
    features = torch.rand(1, d).expand(n, d)
    errors = torch.rand(1, c).expand(n, c)
    gradients = HeadGradients(errors, features)
    assert gradients.columns(torch.tensor([3])).shape == (1, n)
    assert gradients.gram(torch.tensor([1]), torch.tensor([2])).shape == (1, 1)
