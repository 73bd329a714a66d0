"""Norms of single samples' gradients: any inputs, any batch size, and the network is left as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sartor.per_sample
from sartor.data.pool import Pool
from sartor.errors import SelectionError
from sartor.per_sample import gradient_norms
from sartor.scanning import scan


class Two(nn.Module):
    """Takes two inputs, by place or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.left(x) * self.right(y)


def literal(model, inputs, targets):
    """A backward pass for each sample."""
    norms = []
    for i, target in enumerate(targets):
        one = {k: v[i : i + 1] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs
        logits = model(**one) if isinstance(inputs, dict) else model(*(v[i : i + 1] for v in inputs))
        weights = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(logits, target[None]), weights)
        norms.append(torch.cat([g.flatten() for g in gradients]).norm())
    return torch.stack(norms)


@pytest.fixture
def two() -> nn.Module:
    torch.manual_seed(0)
    return Two().eval()


@pytest.mark.parametrize("room", [1, 2**28])
def test_inputs_by_place_and_by_name(two, room, monkeypatch):
    monkeypatch.setattr(sartor.per_sample, "ROOM", room)
    x, y, targets = torch.randn(5, 3), torch.randn(5, 2), torch.arange(5) % 4
    expected = literal(two, (x, y), targets)
    torch.testing.assert_close(gradient_norms(two, (x, y), targets), expected)
    torch.testing.assert_close(gradient_norms(two, {"x": x, "y": y}, targets), expected)


def test_what_does_not_train_counts_nothing_and_nothing_is_disturbed(two):
    two.left.weight.requires_grad_(False)
    x, y, targets = torch.randn(3, 3), torch.randn(3, 2), torch.tensor([0, 1, 2])
    before = {name: value.clone() for name, value in two.state_dict().items()}
    torch.testing.assert_close(gradient_norms(two, (x, y), targets), literal(two, (x, y), targets))
    assert all(p.grad is None for p in two.parameters())
    assert all(torch.equal(value, before[name]) for name, value in two.state_dict().items())
    for p in two.parameters():
        p.requires_grad_(False)
    with pytest.raises(SelectionError, match="no weight of the network trains"):
        gradient_norms(two, (x, y), targets)


def test_a_network_that_looks_at_values_is_refused_clearly():
    class Looks(nn.Linear):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    with pytest.raises(SelectionError, match=r"Looks cannot be differentiated sample by sample .*grand\(layers=last\)"):
        gradient_norms(Looks(3, 2), torch.randn(2, 3), torch.tensor([0, 1]))


class Last(nn.Module):
    """Some layers on sequences, of which the last place is classified."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.body(x)
        return self.head((made[0] if isinstance(made, tuple) else made)[:, -1])


class Tied(nn.Module):
    """One weight in two places, and a Linear that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head, self.idle = (nn.Linear(4, 4) for _ in range(4))
        self.other.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.other(self.one(x).relu()))


class Counts(nn.Linear):
    """Counts its calls in a buffer, at rest too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


def convolutions() -> nn.Module:
    """A network with batch norm, whose statistics are those of nothing in particular."""
    norm = nn.BatchNorm2d(2)
    nn.init.uniform_(norm.running_mean)
    return nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3))


NETWORKS = {
    "convolutions": (convolutions, (1, 4, 4)),
    "tied": (Tied, (4,)),
    "counts": (lambda: Counts(4, 3), (4,)),
    "lstm": (lambda: Last(nn.LSTM(4, 4, batch_first=True)), (5, 4)),
    "encoder": (lambda: Last(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), (5, 4)),
    "weight-norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_they_are_those_of_a_backward_pass_for_each_sample_however_many_fit(name, at_once, monkeypatch):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model, targets = make().eval(), torch.arange(7) % 3
    monkeypatch.setattr(sartor.per_sample, "ROOM", at_once * 4 * sum(p.numel() for p in model.parameters()))
    x = torch.randn(7, *shape)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    norms = gradient_norms(model, x, targets)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module.training for module in model.modules())
    losses = [F.cross_entropy(model(x[i : i + 1]), targets[i : i + 1]) for i in range(7)]
    found = [torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) for loss in losses]
    expected = [torch.cat([g.flatten() for g in each if g is not None]).norm() for each in found]
    torch.testing.assert_close(norms, torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_squares_of_half_precision_do_not_overflow():
    """Faulty: squares in the precision of the weights, where 300 squared is more than there is."""
    model = nn.Linear(2, 2).half()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    norms = gradient_norms(model, torch.full((1, 2), 600.0).half(), torch.tensor([0]))
    assert float(norms) == pytest.approx(600, rel=1e-2)


class Writes(Counts):
    """Keeps something of a sample in a buffer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.copy_(x.mean())
        return nn.Linear.forward(self, x)


class Leaves(nn.Linear):
    """Goes by way of numpy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.from_numpy(x.detach().numpy()))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Writes(4, 3), (4,)), (Leaves(4, 3), (4,)), (Last(nn.GRU(4, 4, batch_first=True)), (5, 4))],
    ids=["buffer", "numpy", "gru"],
)
def test_all_that_torch_func_refuses_is_refused_clearly_in_whatever_words_it_does(model, shape):
    """Faulty: only errors that speak of vmap."""
    with pytest.raises(SelectionError, match=r"cannot be differentiated sample by sample .*grand\(layers=last\)"):
        gradient_norms(model.eval(), torch.randn(3, *shape), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(("change", "text"), [(lambda z: {"logits": z}, "dict"), (lambda z: z[None], r"\(1, 1, 3\)")])
def test_a_network_that_returns_no_table_of_logits_is_refused(change, text):
    model = nn.Linear(4, 3)
    model.register_forward_hook(lambda *call: change(call[-1]))
    with pytest.raises(SelectionError, match=f"the model returns {text}; a scan needs a tensor of logits"):
        gradient_norms(model, torch.randn(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("label", [-100, -1, 3])
def test_labels_that_are_no_class_are_refused(label):
    """Faulty: -100, which torch's cross-entropy leaves out, has a gradient of length 0."""
    with pytest.raises(SelectionError, match=rf"a label is {label}; it must lie in \[0, 2\]"):
        gradient_norms(nn.Linear(4, 3), torch.randn(2, 4), torch.tensor([0, label]))


def test_an_error_of_the_network_itself_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        gradient_norms(nn.Linear(4, 3), torch.randn(2, 5), torch.tensor([0, 1]))


def test_a_scan_goes_on_in_smaller_batches_where_memory_does_not_suffice(monkeypatch):
    torch.manual_seed(0)
    model, pool = nn.Linear(4, 3), Pool.from_arrays(torch.randn(10, 4), torch.arange(10) % 3)
    expected, each = scan(model, pool, needs={"gradient_norms"}).gradient_norms, sartor.per_sample._gradients

    def narrow(model, weights, given, targets):
        if len(targets) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return each(model, weights, given, targets)

    monkeypatch.setattr(sartor.per_sample, "_gradients", narrow)
    with pytest.warns(UserWarning, match="going on in batches of [42]"):
        norms = scan(model, pool, needs={"gradient_norms"}, batch_size=8).gradient_norms
    torch.testing.assert_close(norms, expected)
