"""The small network computes what the dense one computes without the channels, for every network of the papers."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from reference.channels import built, disturb, outputs, relative
from sartor.errors import PruningError
from sartor.prune.channels import fuse, plan

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
TEXT = torch.randint(60, (2, 128), generator=torch.Generator().manual_seed(0))
SPARSITIES = (0.3, 0.5, 0.8)
EXACT, SINGLE = 1e-9, 1e-5
"""How far outputs may lie apart in double and in single precision, relative to the largest."""
DEEP = 3e-5
"""In single precision for MobileNetV2, which, so disturbed, makes rounding a hundred times larger than the others do.
In double precision, where it does so as well, all have the same bound."""
QUICK = ("resnet8", "vit-s(depth=2, width=48, heads=6)")
NETWORKS = (
    *("resnet20", "resnet56", "resnet164", "resnet164(preactivation=True)", "resnet18", "resnet50", "resnet101"),
    *("wrn-28-10", "mobilenetv2", "vit-s", "vdcnn9"),
)
FROM_TORCHVISION = ("torchvision:densenet121", "torchvision:vgg16_bn", "torchvision:resnext50_32x4d")


def slow(names: tuple[str, ...], *marks: pytest.MarkDecorator) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.slow, *marks]) for name in names]


with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason='needs torchvision, which is not installed: pip install "sartor[vision]"',
)
quiet = pytest.mark.filterwarnings("ignore:torchvision's compiled operators")
every_network = pytest.mark.parametrize(
    "name", [*QUICK, *slow(NETWORKS), *slow(FROM_TORCHVISION, with_torchvision, quiet)]
)


def network(name: str) -> tuple[nn.Module, Tensor]:
    shape, inputs = ((128,), TEXT) if name.startswith("vdcnn") else ((3, 32, 32), IMAGE)
    return built(name, shape), inputs


def differences(dense: nn.Module, inputs: Tensor, sparsity: float) -> list[float]:
    """Small against masked; then, with other weights and statistics, fused by two complements against small."""
    made = plan(dense, inputs, sparsity)
    assert made.sparsity == pytest.approx(sparsity, abs=0.05)
    left = {key: made.blank(key, weight.detach()) for key, weight in dense.named_parameters()}
    with torch.no_grad():
        masked = torch.func.functional_call(dense.eval(), left, (inputs,))
    del left
    found = [relative(outputs(made.shrink(dense), inputs), masked)]
    small = disturb(made.shrink(dense), seed=2)
    wanted = outputs(small, inputs)
    for complement in ("zeros", "preserving"):
        found.append(relative(outputs(fuse(dense, small, made, complement=complement), inputs), wanted))
    return found


@every_network
def test_small_masked_and_fused_networks_compute_the_same(name: str) -> None:
    model, inputs = network(name)
    bound = DEEP if name.startswith("mobilenetv2") else SINGLE
    dense = disturb(model)
    for sparsity in SPARSITIES:
        assert max(differences(dense, inputs, sparsity)) <= bound
    dense, inputs = dense.double(), inputs.double() if inputs.is_floating_point() else inputs
    for sparsity in SPARSITIES:
        assert max(differences(dense, inputs, sparsity)) <= EXACT


@pytest.mark.slow
@with_torchvision
@quiet
def test_resnext_loses_whole_groups() -> None:
    dense, _ = network("torchvision:resnext50_32x4d")
    made = plan(dense, IMAGE, 0.8)
    small = made.shrink(dense)
    for name, module in small.named_modules():
        if name.endswith("conv2") and isinstance(module, nn.Conv2d):
            assert module.groups == 6
            whole = dense.get_submodule(name)
            assert isinstance(whole, nn.Conv2d)
            assert module.out_channels // 6 == whole.out_channels // 32


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "sparsity", "count"),
    [
        ("resnet20", 0.5, 68_786),
        ("resnet14", 0.5, 44_370),
        ("resnet56", 0.6, 0.14e6),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("resnet56", 0.5, 215_282),
                ("resnet56", 0.7, 77e3),
                ("resnet56", 0.8, 34e3),
                ("resnet18", 0.5, 2_797_610),
                ("resnet110", 0.5, 435_026),
                ("resnet164", 0.5, 433_074),
                *(
                    ("resnet50", sparsity, count)
                    for sparsity, count in ((0.5, 6.10e6), (0.6, 3.92e6), (0.7, 2.23e6), (0.8, 1.02e6))
                ),
            )
        ),
    ],
)
def test_parameter_counts_of_prunefuse(name: str, sparsity: float, count: float) -> None:
    from sartor.models.build import build_model

    classes = 200 if name == "resnet50" else 10
    dense = build_model(name, classes=classes, input_shape=(3, 32, 32), seed=0)
    small = plan(dense, IMAGE[:1], sparsity).shrink(dense)
    assert parameters(small) == pytest.approx(count, rel=0.03)


def test_other_dimensions_leave_on_request_and_then_a_norm_sees_fewer() -> None:
    model = disturb(built("vit-s(depth=2, width=48, heads=6)")).double()
    inputs = IMAGE.double()
    made = plan(model, inputs, 0.5, exact=False)
    left = {key: made.blank(key, weight.detach()) for key, weight in model.named_parameters()}
    with torch.no_grad():
        masked = torch.func.functional_call(model.eval(), left, (inputs,))
    assert relative(outputs(made.shrink(model), inputs), masked) > 1e-3
    with pytest.raises(PruningError, match="no channels that can leave"):
        plan(nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)), torch.zeros(1, 3), 0.5)


def test_rounding_that_is_made_large_is_no_reason_to_refuse() -> None:
    class Cancelling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 512), nn.Linear(512, 2), nn.Linear(512, 2)
            disturb(self)
            with torch.no_grad():  # all but a hundred-thousandth of what they say cancels
                self.c.weight.copy_(self.b.weight * (1 + 1e-5 * torch.randn(2, 512, generator=draws)))
                self.c.bias.copy_(self.b.bias)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.a(x)
            return self.b(hidden) - self.c(hidden)

    draws = torch.Generator().manual_seed(0)
    dense, inputs = Cancelling(), torch.randn(8, 3, generator=draws)
    made = plan(dense, inputs, 0.5)
    left = {key: made.blank(key, weight.detach()) for key, weight in dense.named_parameters()}
    with torch.no_grad():
        masked = torch.func.functional_call(dense, left, (inputs,))
    assert relative(outputs(made.shrink(dense), inputs), masked) > 1e-4, "or else this tests nothing"
