"""A scan sees what the model sees, and leaves the model as it was."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sartor.data.pool import Pool
from sartor.errors import ConfigError, SelectionError
from sartor.scanning import scan
from sartor.seen import SUPPLIERS, Scan


class Net(nn.Module):
    """Convolution, batch norm, dropout, a hidden Linear and a head; what it returns can be changed."""

    def __init__(self, classes=3, *, bias=True, after=lambda logits: logits):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.hidden = nn.Linear(16, 6)
        self.fc = nn.Linear(6, classes, bias=bias)
        self.after = after

    def forward(self, x):
        hidden = self.hidden(self.drop(self.norm(self.conv(x)).relu().flatten(1))).relu()
        return self.after(self.fc(hidden))


@pytest.fixture
def pool():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 1, 4, 4, generator=generator)
    return Pool.from_arrays(inputs, torch.arange(20) % 3)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_logits_and_features_are_those_of_the_model_in_eval_mode(net, pool):
    view = pool.only(torch.tensor([3, 4, 7, 11, 19]))
    seen = scan(net, view, needs={"logits", "features", "targets"}, batch_size=2)
    net.eval()
    inputs = pool.gather(view.rows)
    torch.testing.assert_close(seen.logits, net(inputs).detach())
    torch.testing.assert_close(net.fc(seen.features).detach(), seen.logits)
    assert seen.rows.tolist() == [3, 4, 7, 11, 19]
    assert seen.targets.tolist() == [0, 1, 1, 2, 1]
    assert (len(seen), seen.classes) == (5, 3)
    assert not seen.logits.requires_grad


@pytest.mark.parametrize("size", [1, 3, 20, 64])
def test_the_batch_size_changes_nothing_last_batch_included(net, pool, size):
    needs = {"logits", "features", "targets"}
    seen, whole = scan(net, pool, needs=needs, batch_size=size), scan(net, pool, needs=needs, batch_size=20)
    torch.testing.assert_close(seen.features, whole.features)
    torch.testing.assert_close(seen.errors(slice(None)), whole.errors(slice(None)))


def test_the_model_is_left_as_it_was(net, pool):
    net.train()
    net.norm.eval()
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    net.fc.register_forward_hook(lambda *_: None)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = {name: module.training for name, module in net.named_modules()}
    hooks = {name: dict(module._forward_hooks) for name, module in net.named_modules()}
    random, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    scan(net, pool, needs={"logits", "features"}, batch_size=6)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert {name: dict(module._forward_hooks) for name, module in net.named_modules()} == hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert (np.random.get_state()[1] == numbers).all()
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight))
    assert torch.is_grad_enabled()


def test_random_numbers_that_a_model_draws_in_eval_mode_are_given_back(pool):
    noisy = Net(after=lambda logits: logits + 0 * torch.rand(1))
    state = torch.get_rng_state()
    scan(noisy, pool, needs={"logits"})
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failing_model_is_left_as_it_was_too(net, pool):
    def fail(_):
        raise RuntimeError("no")

    net.after = fail
    net.train()
    with pytest.raises(RuntimeError, match="no"):
        scan(net, pool, needs={"features"})
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())


def test_stored_logits_can_take_part_in_training(net, pool):
    stored = scan(net, pool, needs={"logits"}).logits
    loss = (net(pool.gather(pool.rows)) * stored).sum()
    loss.backward()
    assert net.fc.weight.grad is not None


def test_without_logits_or_features_the_model_is_not_run(pool):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError("the model was run")

    seen = scan(Never(), pool, needs={"targets"}, progress=0.25, lr=0.1)
    assert seen.targets.tolist() == (torch.arange(20) % 3).tolist()
    assert (seen.progress, seen.lr) == (0.25, 0.1)
    assert len(scan(Never(), pool, needs=())) == 20


def test_only_the_parts_asked_for_are_there(net, pool):
    seen = scan(net, pool, needs={"features"})
    assert seen.has("features")
    assert not seen.has("logits")
    with pytest.raises(SelectionError, match=r"the scan has no logits; scan the pool with needs=\{'logits'\}"):
        _ = seen.logits


@pytest.mark.parametrize("part", sorted(SUPPLIERS))
def test_a_missing_part_says_who_supplies_it(part):
    bare = Scan.from_arrays(rows=torch.arange(3))
    with pytest.raises(SelectionError, match=f"the scan has no {part}; .*{part}="):
        getattr(bare, part)


def test_a_head_hidden_by_what_comes_after_must_be_named(pool):
    warm = Net(after=lambda logits: logits / 2)
    with pytest.raises(SelectionError, match="head=NAME, one of: hidden, fc"):
        scan(warm, pool, needs={"features"})
    seen = scan(warm, pool, needs={"features", "logits"}, head="fc")
    torch.testing.assert_close(warm.fc(seen.features).detach() / 2, seen.logits)
    with pytest.raises(ConfigError, match=r"head is 'fd'.*Did you mean 'fc'"):
        scan(warm, pool, needs={"features"}, head="fd")
    with pytest.raises(SelectionError, match=r"head 'hidden' returns \(20, 6\) but the logits are \(20, 3\)"):
        scan(warm, pool, needs={"features"}, head="hidden")


def test_a_linear_that_runs_after_the_head_is_not_taken_for_it(pool):
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc, self.aux = nn.Linear(16, 5), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            hidden = self.body(x.flatten(1)).relu()
            logits = self.fc(hidden)
            self.other = self.aux(hidden * 2)
            return logits

    model = Auxiliary()
    seen = scan(model, pool, needs={"features", "logits"}, batch_size=7)
    torch.testing.assert_close(model.fc(seen.features).detach(), seen.logits)


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_of_the_head_is_known(pool, bias):
    assert scan(Net(bias=bias), pool, needs={"features"}).head_bias is bias


def test_inputs_may_be_a_tuple_or_a_dict():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, left, right):
            return self.fc(torch.cat([left, right], dim=1))

    left, right, model = torch.randn(6, 2), torch.randn(6, 2), Two()
    expected = model(left, right).detach()
    for inputs in ((left, right), {"left": left, "right": right}):
        seen = scan(model, Pool.from_arrays(inputs), needs={"logits", "features"}, batch_size=4)
        torch.testing.assert_close(seen.logits, expected)
        torch.testing.assert_close(seen.features, torch.cat([left, right], dim=1))


def test_channels_last_gives_the_same(net, pool):
    seen = scan(net, pool, needs={"logits"}, channels_last=True)
    torch.testing.assert_close(seen.logits, scan(net, pool, needs={"logits"}).logits)


def test_a_validation_pool_is_scanned_with_the_same_model(net, pool):
    train, held = pool.only(torch.arange(12)), pool.only(torch.arange(12, 20))
    seen = scan(net, train, needs={"logits", "targets", "validation"}, validation=held)
    torch.testing.assert_close(seen.validation.logits, scan(net, held, needs={"logits"}).logits)
    assert seen.validation.rows.tolist() == list(range(12, 20))
    assert seen.validation.has("targets")


@pytest.mark.parametrize(("targets", "text"), [(None, "the pool has no targets"), ([0, -1, 1, -1], "01, 3|1, 3")])
def test_labels_that_are_missing_are_refused(targets, text):
    labels = None if targets is None else torch.tensor(targets)
    bare = Pool.from_arrays(torch.randn(4, 1, 4, 4), labels)
    with pytest.raises(SelectionError, match=text):
        scan(Net(), bare, needs={"targets"})


def test_outputs_that_are_not_finite_name_the_samples(net):
    inputs = torch.randn(6, 1, 4, 4)
    inputs[[2, 5]] = torch.nan
    pool = Pool.from_arrays(inputs, ids=list("abcdef"))
    with pytest.raises(SelectionError, match="the logits of c, f are not finite"):
        scan(net, pool, needs={"logits"}, batch_size=4)


@pytest.mark.parametrize(
    ("after", "text"),
    [(lambda z: z[:, :, None], r"\(20, 3, 1\)"), (lambda z: {"logits": z}, "dict"), (lambda z: z[:5], r"\(5, 3\)")],
)
def test_models_that_return_no_table_of_logits_are_refused(pool, after, text):
    with pytest.raises(SelectionError, match=f"the model returns {text}; a scan needs a tensor of logits"):
        scan(Net(after=after), pool, needs={"logits"})


def test_labels_beyond_the_outputs_are_refused(pool):
    with pytest.raises(SelectionError, match=r"02 has 2, .* they must lie in \[0, 1\]"):
        scan(Net(classes=2), pool, needs={"logits", "targets"})


def test_needs_are_checked_before_any_work(pool):
    with pytest.raises(ConfigError, match=r"no part 'logit'; .*Did you mean 'logits'"):
        scan(nn.Identity(), pool, needs={"logit"})
    for part in ("progress", "lr", "validation", "history", "members"):
        with pytest.raises(SelectionError, match=f"does not bring {part}; give"):
            scan(nn.Identity(), pool, needs={part})
    with pytest.raises(SelectionError, match="nothing to scan"):
        scan(nn.Identity(), pool.only(torch.tensor([], dtype=torch.int64)), needs=())


def test_errors_are_softmax_minus_onehot_and_the_gradient_of_cross_entropy():
    logits = torch.randn(7, 4, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 3, 3, 2, 1])
    nn.functional.cross_entropy(logits, targets, reduction="sum").backward()
    seen = Scan.from_arrays(logits=logits, targets=targets)
    torch.testing.assert_close(seen.errors(slice(None)), logits.grad)
    torch.testing.assert_close(seen.errors(torch.tensor([5, 2])), logits.grad[[5, 2]])
    assert seen.errors(slice(1, 3)).dtype == torch.float32
    joined = torch.cat([seen.errors(block) for block in seen.blocks(3)])
    torch.testing.assert_close(joined, logits.grad)


def test_rows_in_any_order_give_one_scan():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    rows = torch.tensor([40, 7, 12, 3, 30])
    seen = Scan.from_arrays(logits=logits, targets=targets.numpy(), rows=rows.numpy())
    assert seen.rows.tolist() == [3, 7, 12, 30, 40]
    assert torch.equal(seen.logits[seen.at(rows)], logits)
    assert seen.targets.tolist() == [0, 1, 2, 1, 0]
    with pytest.raises(SelectionError, match="does not hold row 8, row 99"):
        seen.at(torch.tensor([7, 8, 99]))


def test_arrays_are_taken_as_float32_and_int64_and_half_precision_stays():
    seen = Scan.from_arrays(
        features=np.ones((2, 3), dtype=np.float64),
        logits=torch.ones(2, 2, dtype=torch.bfloat16),
        targets=np.array([0, 1], dtype=np.uint8),
    )
    assert (seen.features.dtype, seen.logits.dtype, seen.targets.dtype) == (torch.float32, torch.bfloat16, torch.int64)
    assert seen.logits_of(slice(0, 1)).dtype == seen.errors(slice(0, 1)).dtype == torch.float32


def test_a_memory_mapped_file_is_neither_copied_nor_changed(tmp_path):
    table = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float16)
    np.save(tmp_path / "features.npy", table)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = Scan.from_arrays(features=mapped, rows=np.arange(6) * 2)
    assert seen.features.data_ptr() == mapped.ctypes.data
    assert torch.equal(seen.features_of(torch.tensor([4, 1])), torch.from_numpy(table[[4, 1]]).float())
    assert Scan.from_arrays(targets=[0, 4]).classes == 5


def test_members_hold_the_same_rows():
    one = Scan.from_arrays(logits=torch.zeros(3, 2))
    assert Scan.from_arrays(members=[one, one]).members == (one, one)
    with pytest.raises(SelectionError, match="members of the scan hold other rows"):
        Scan.from_arrays(members=[one], rows=[1, 2, 3])


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "holds no samples"),
        ({"logits": np.zeros((3, 2)), "targets": [0, 1]}, r"targets have shape \(2,\); give \(n,\), with n = 3"),
        ({"logits": np.zeros(3)}, r"logits have shape \(3,\); give \(n, values\)"),
        ({"features": np.zeros((2, 2)), "rows": [5, 5]}, "row 5 cannot be used"),
        ({"features": np.zeros((2, 2)), "rows": [-1, 5]}, "row -1 cannot be used"),
        ({"features": np.zeros((2, 2)), "rows": [0.5, 1.5]}, "rows are torch.float32"),
        ({"logits": np.zeros((2, 2)), "targets": [0, 2], "rows": [8, 9]}, r"row 9 has 2; they must lie in \[0, 1\]"),
        ({"targets": [0, -1]}, "row 1 has -1; they must lie in 0, 1, 2"),
        ({"targets": [0.0, 1.0]}, "targets are torch.float32"),
        ({"features": [[1.0], [np.inf]]}, "the features of row 1 are not finite"),
        ({"targets": [0], "progress": 1.5}, r"progress is 1.5; it must lie in \[0, 1\]"),
    ],
)
def test_arrays_that_contradict_themselves_are_refused(arrays, text):
    with pytest.raises(SelectionError, match=text):
        Scan.from_arrays(**arrays)


def test_every_pass_of_a_sample_is_told_once(net, pool):
    class Plain(nn.Module):  # gradients of single samples do not go through batch norm
        def __init__(self):
            super().__init__()
            self.drop, self.fc = nn.Dropout(0.5), nn.Linear(16, 3)

        def forward(self, x):
            return self.fc(self.drop(x.flatten(1)))

    told: list[int] = []
    needs = {"logits", "gradient_norms", "targets", "members"}
    scan(Plain(), pool, needs=needs, dropout_passes=2, batch_size=8, heard=told.append)
    assert told == [8, 8, 4] * 4
    told.clear()
    scan(net, pool, needs={"members"}, committee=[net, net], batch_size=8, heard=told.append)
    assert sum(told) == 2 * 20
