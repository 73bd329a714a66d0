"""What every network of a paper must bear: a scan, mixed precision, another memory layout, gradients of each sample."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sartor.costs import count_flops
from sartor.data import Pool
from sartor.models.build import build_model
from sartor.per_sample import gradient_norms
from sartor.precision import arithmetic
from sartor.prune.scope import classifier_name, prunable
from sartor.scanning import scan

IMAGES, TEXTS = (3, 8, 8), (64,)
NETWORKS = {
    "fc(hidden=4)": IMAGES,
    "cnn(width=2)": IMAGES,
    "resnet8(width=2)": IMAGES,
    "resnet18(width=2)": IMAGES,
    "wrn-16-4(depth=10, width=1)": IMAGES,
    "mobilenetv2(width=0.1)": IMAGES,
    "vit-s(depth=2, width=12, heads=3)": IMAGES,
    "vdcnn9(width=2, hidden=6)": TEXTS,
}
pytestmark = pytest.mark.parametrize(("spec", "shape"), NETWORKS.items(), ids=lambda value: str(value).split("(")[0])


def samples(shape: tuple[int, ...], n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if shape == TEXTS:
        return torch.randint(69, (n, *shape), generator=generator)
    return torch.randn(n, *shape, generator=generator)


def test_features_are_the_input_of_the_classifier(spec: str, shape: tuple[int, ...]) -> None:
    model = build_model(spec, classes=4, input_shape=shape, seed=0)
    seen = scan(model, Pool.from_arrays(samples(shape)), needs={"features", "logits"}, batch_size=4)
    head = model.get_submodule(classifier_name(model))
    torch.testing.assert_close(head(seen.features), seen.logits)
    assert seen.head_bias is True


def test_the_memory_layout_changes_nothing(spec: str, shape: tuple[int, ...]) -> None:
    model, x = build_model(spec, classes=4, input_shape=shape, seed=0).eval(), samples(shape)
    expected = model(x)
    if x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last)(x), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_changes_little(spec: str, shape: tuple[int, ...]) -> None:
    model, x = build_model(spec, classes=4, input_shape=shape, seed=0).eval(), samples(shape)
    expected = model(x)
    with arithmetic("bf16", torch.device("cpu")):
        found = model(x)
        F.cross_entropy(found, torch.zeros(6, dtype=torch.int64)).backward()
    assert float((found - expected).detach().norm() / expected.detach().norm()) < 0.1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_gradients_can_be_taken_sample_by_sample(spec: str, shape: tuple[int, ...]) -> None:
    model, x = build_model(spec, classes=4, input_shape=shape, seed=0).eval(), samples(shape, 3)
    targets = torch.tensor([0, 1, 3])
    norms = []
    for row, target in zip(x, targets, strict=True):
        model.zero_grad()
        F.cross_entropy(model(row[None]), target[None]).backward()
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm())
    torch.testing.assert_close(gradient_norms(model, x, targets), torch.stack(norms), rtol=1e-3, atol=1e-5)


def test_every_weight_that_can_be_pruned_has_its_flops_and_comes_from_the_seed(
    spec: str, shape: tuple[int, ...]
) -> None:
    model = build_model(spec, classes=4, input_shape=shape, seed=3)
    assert set(prunable(model)) == set(count_flops(model, samples(shape)).by_weight)
    assert list(prunable(model))[-1] == "classifier.weight"
    again, other = (build_model(spec, classes=4, input_shape=shape, seed=seed) for seed in (3, 4))
    same = [torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)


def test_dropout_draws_before_the_classifier(spec: str, shape: tuple[int, ...]) -> None:
    name, _, options = spec.partition("(")
    model = build_model(f"{name}(dropout=0.5, {options}", classes=4, input_shape=shape, seed=0)
    plain = build_model(spec, classes=4, input_shape=shape, seed=0)
    assert list(model.state_dict()) == list(plain.state_dict())
    inputs: list[torch.Tensor] = []
    model.eval().classifier.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    model(samples(shape))
    model.dropout.train()
    model(samples(shape))
    kept = inputs[1] != 0
    torch.testing.assert_close(inputs[1][kept], 2 * inputs[0][kept])
    assert (inputs[0][~kept] != 0).any()
