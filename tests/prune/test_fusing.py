from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adafactor, Adam, AdamW, Optimizer

from reference.channels import built, disturb, outputs, relative
from reference.fusion import literal_copies, literal_fusion, literal_places, literal_replication
from sartor.errors import ConfigError, PruningError
from sartor.prune.channels import ChannelPlan, disperse, fuse, fuse_state, plan, reestimate_statistics

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
COMPLEMENTS = ("random", "retained", "zeros", "preserving")
DISPERSIONS = ("none", "contiguous", "strided", "random")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Sequential:
    """A convolution with statistics, a depthwise one, a flattening, two layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False)),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3)),
        )
    assert isinstance(disturb(layers), nn.Sequential)
    return layers


def pair(sparsity: float = 0.5) -> tuple[nn.Sequential, nn.Module, ChannelPlan]:
    dense = network()
    made = plan(dense, IMAGE, sparsity)
    small = disturb(made.shrink(dense), seed=2)
    return dense, small, made


def lists(made: ChannelPlan) -> dict[str, dict[int, list[int]]]:
    return {name: {dim: places.tolist() for dim, places in dims.items()} for name, dims in made.kept.items()}


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("complement", COMPLEMENTS)
def test_every_element_is_where_the_definition_says(complement: str) -> None:
    dense, small, made = pair()
    wanted = literal_fusion(dense, small, lists(made), complement, seeded())
    found = tensors(fuse(dense, small, made, complement=complement, generator=seeded()))
    assert list(found) == list(wanted)
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


@pytest.mark.parametrize("dispersion", DISPERSIONS)
def test_channels_come_to_lie_where_the_definition_says(dispersion: str) -> None:
    dense, small, made = pair()
    draws, sizes = seeded(), {name: size for name, (_, size) in made.groups.items()}
    first = literal_places(dispersion, lists(made)["0.weight"][0], sizes["0"], draws)
    second = literal_places(dispersion, lists(made)["6.weight"][0], sizes["6"], draws)
    flat = [4 * channel + place for channel in first for place in range(4)]
    kept = {name: {0: first} for name in tensors(dense) if name[0] in "013" and "num" not in name}
    kept |= {"6.weight": {0: second, 1: flat}, "6.bias": {0: second}, "8.weight": {1: second}}
    wanted = literal_fusion(dense, small, kept, "retained", seeded())
    found = tensors(fuse(dense, small, made, complement="retained", dispersion=dispersion, generator=seeded()))
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name


def test_copies_are_divided_among_those_who_read_them() -> None:
    dense = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 6), nn.Linear(6, 2)).double()
    made = plan(dense, torch.randn(1, 3).double(), 0.6)
    small = disturb(made.shrink(dense))
    draws = seeded()
    copies = [literal_copies(lists(made)[f"{n}.weight"][0], size, draws) for n, size in ((0, 8), (1, 6))]
    weights = [small.get_parameter(f"{n}.weight").tolist() for n in range(3)]
    fused = fuse(dense, small, made, complement="replicate", generator=seeded())
    for number, wanted in enumerate(literal_replication(weights, copies)):
        torch.testing.assert_close(fused.get_parameter(f"{number}.weight"), torch.tensor(wanted, dtype=torch.float64))
    for number in range(2):
        assert torch.equal(fused.get_parameter(f"{number}.bias"), small.get_parameter(f"{number}.bias")[copies[number]])


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        pytest.param("mobilenetv2(width=0.25)", marks=pytest.mark.slow),
        "vit-s(depth=1, width=24, heads=4)",
    ],
)
@pytest.mark.parametrize("complement", ["zeros", "preserving", "replicate"])
def test_three_complements_compute_what_the_small_network_computes(name: str, complement: str) -> None:
    dense = disturb(built(name)).double()
    image = torch.randn(2, 3, 32, 32, generator=seeded(), dtype=torch.float64)
    made = plan(dense, image, 0.5)
    small = disturb(made.shrink(dense), seed=2)
    for dispersion in DISPERSIONS if name == "resnet8" else ("none",):
        fused = fuse(dense, small, made, complement=complement, dispersion=dispersion, generator=seeded())
        assert relative(outputs(fused, image), outputs(small, image)) <= 1e-9


@pytest.mark.parametrize("complement", COMPLEMENTS)
def test_weights_and_statistics_of_the_small_network_are_in_place_bit_for_bit(complement: str) -> None:
    dense = disturb(built("resnet8"))
    made = plan(dense, torch.zeros(1, 3, 32, 32), 0.5)
    small = disturb(made.shrink(dense), seed=2)
    small.get_submodule("bn1").num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
    for dispersion in DISPERSIONS:
        fused = fuse(dense, small, made, complement=complement, dispersion=dispersion, generator=seeded())
        there = disperse(made, dispersion, generator=seeded())
        for name, tensor in tensors(fused).items():
            assert torch.equal(there.cut(name, tensor), tensors(small)[name]), name
    assert int(fused.get_buffer("bn1.num_batches_tracked")) == 7


def test_preserving_leaves_the_rest_its_gradient_and_zeros_does_not() -> None:
    dense, small, made = pair()
    outside = torch.ones(6, dtype=torch.bool)
    outside[made.kept["0.weight"][0]] = False
    learning = {}
    for complement in ("zeros", "preserving"):
        fused = fuse(dense, small, made, complement=complement)
        fused(IMAGE).square().sum().backward()
        gradients = [fused.get_parameter(f"{name}.weight").grad for name in (0, 3, 6)]
        learning[complement] = [
            float(gradients[0][outside].abs().sum()),
            float(gradients[1][outside].abs().sum()),
            float(gradients[2].reshape(5, 6, 4)[:, outside].abs().sum()),
        ]  # type: ignore[index, union-attr]
    assert learning["zeros"] == [0, 0, 0]
    assert learning["preserving"][2] > 0


def test_both_networks_stay_as_they_are_and_the_fused_one_is_like_the_dense() -> None:
    dense, small, made = pair()
    dense.get_parameter("0.weight").requires_grad_(False)
    dense[6].eval()
    before = [copy.deepcopy(model.state_dict()) for model in (dense, small)]
    state = torch.random.get_rng_state()
    fused = fuse(dense, small.double(), made, generator=seeded())
    assert torch.equal(torch.random.get_rng_state(), state)
    for model, kept in zip((dense, small.float()), before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in fused.modules()] == [module.training for module in dense.modules()]
    for name, parameter in fused.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.requires_grad == (name != "0.weight")
        assert parameter is not dense.get_parameter(name)


def test_draws_are_the_generator_s() -> None:
    dense, small, made = pair()
    for options in ({}, {"complement": "replicate"}, {"complement": "zeros", "dispersion": "random"}):
        one, same, other = (
            fuse(dense, small, made, **options, generator=seeded(seed)).state_dict() for seed in (0, 0, 1)
        )  # type: ignore[arg-type]
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "complement is 'random', but there is no generator; give generator="),
        ({"complement": "replicate"}, "complement is 'replicate', but there is no generator"),
        ({"complement": "zeros", "dispersion": "random"}, "dispersion is 'random', but there is no generator"),
        (
            {"complement": "zero"},
            "complement is 'zero'; it must be one of random, retained, zeros, .* Did you mean 'zeros'",
        ),
        ({"complement": "zeros", "dispersion": "block"}, "dispersion is 'block'; it must be one of none, contiguous"),
    ],
)
def test_bad_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fuse(*pair(), **options)  # type: ignore[arg-type]


def test_networks_of_another_plan_are_refused() -> None:
    dense, small, made = pair()
    with pytest.raises(PruningError, match=r"is not the small network of the plan: .*make the network with"):
        fuse(dense, dense, made, complement="zeros")
    with pytest.raises(PruningError, match="is not the dense network of the plan"):
        fuse(small, small, made, complement="zeros")


def test_channels_that_are_read_in_another_order_cannot_be_dispersed() -> None:
    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, other = self.a(x).chunk(2, 1)
            return self.b(torch.cat([other, one], 1))

    dense, x = disturb(Swapped()), torch.randn(2, 3)
    with torch.no_grad():
        dense.get_parameter("a.weight")[[1, 2, 5, 6]] += 10  # two of each half, so that it can shrink
    made = plan(dense, x, 0.5)
    small = disturb(made.shrink(dense), seed=2)
    assert relative(outputs(fuse(dense, small, made, complement="zeros"), x), outputs(small, x)) < 1e-6
    with pytest.raises(PruningError, match="another order; dispersion must be 'none'"):
        fuse(dense, small, made, complement="zeros", dispersion="contiguous")


def stepped(model: nn.Module, kind: str, steps: int, optimizer: Optimizer | None = None) -> Optimizer:
    """Train a little, always on the same inputs."""
    options = {"momentum": 0.9} if kind == "SGD" else {}
    made = optimizer or {"SGD": SGD, "Adam": Adam, "AdamW": AdamW}[kind](model.parameters(), lr=0.01, **options)
    for _ in range(steps):
        made.zero_grad()
        model(IMAGE.to(next(model.parameters()).dtype)).square().sum().backward()
        made.step()
    return made


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("dispersion", ["none", "strided"])
def test_with_the_optimiser_s_memory_training_goes_on_as_it_would_have(kind: str, dispersion: str) -> None:
    dense = network().double()
    made = plan(dense, IMAGE.double(), 0.5)
    small = made.shrink(dense)
    remembers = stepped(small, kind, 3)
    fused = fuse(dense, small, made, complement="zeros", dispersion=dispersion)
    there = disperse(made, dispersion)
    goes_on = stepped(fused, kind, 0)
    fuse_state(goes_on, remembers, fused, small, there)
    for name, weight in fused.named_parameters():
        for key, value in remembers.state[small.get_parameter(name)].items():
            found = goes_on.state[weight][key]
            if value.ndim:
                assert torch.equal(there.cut(name, found), value)
                assert torch.equal(there.blank(name, found), found), "zero elsewhere"
            else:
                assert torch.equal(found, value)
                assert found is not value
    stepped(small, kind, 1, remembers)
    stepped(fused, kind, 1, goes_on)
    for name, weight in fused.named_parameters():
        torch.testing.assert_close(
            there.cut(name, weight.detach()), small.get_parameter(name).detach(), rtol=1e-9, atol=1e-12
        )
    goes_on.load_state_dict(goes_on.state_dict())


def test_optimisers_that_do_not_fit_are_refused() -> None:
    dense, small, made = pair()
    fused = fuse(dense, small, made, complement="zeros")
    with pytest.raises(ConfigError, match=r"the optimisers are AdamW and SGD; .*use one kind"):
        fuse_state(SGD(fused.parameters(), lr=0.1), stepped(small, "AdamW", 1), fused, small, made)
    with pytest.raises(
        ConfigError, match=r"the fused network's optimiser lacks '0.weight'; make it of fused.parameters"
    ):
        fuse_state(AdamW(dense.parameters()), stepped(small, "AdamW", 1), fused, small, made)
    factored = Adafactor(small.parameters())
    stepped(small, "", 1, factored)
    with pytest.raises(ConfigError, match=r"remembers '.*_var' of shape .* so its places are not known"):
        fuse_state(Adafactor(fused.parameters()), factored, fused, small, made)
    fresh = SGD(fused.parameters(), lr=0.1, momentum=0.9)
    fuse_state(fresh, SGD(small.parameters(), lr=0.1, momentum=0.9), fused, small, made)
    assert not fresh.state, "what has not stepped remembers nothing"


def test_statistics_are_the_mean_over_batches() -> None:
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2), nn.BatchNorm1d(2)
    )
    disturb(model.double())
    model[1].train()
    model[5].eval()
    batches = [torch.randn(size, 3, generator=seeded(size), dtype=torch.float64) for size in (5, 7, 4)]
    first, second = [], []
    for batch in batches:
        inner = model[0](batch).detach()
        first.append((inner.mean(0), inner.var(0)))
        normed = (inner - inner.mean(0)) / (inner.var(0, unbiased=False) + 1e-5).sqrt()
        last = model[4]((normed * model[1].weight + model[1].bias).relu()).detach()
        second.append((last.mean(0), last.var(0)))
    state, modes = torch.random.get_rng_state(), [module.training for module in model.modules()]
    assert reestimate_statistics(model, iter(batches)) == 16
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    for norm, found in ((model[1], first), (model[5], second)):
        means, variances = (torch.stack(column).mean(0) for column in zip(*found, strict=True))
        torch.testing.assert_close(norm.running_mean, means, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(norm.running_var, variances, rtol=1e-12, atol=1e-12)
        assert norm.momentum == 0.1
        assert int(norm.num_batches_tracked) == 3
    assert all(parameter.grad is None for parameter in model.parameters())


def test_other_statistics_stay() -> None:
    """Instance norm has no mean over batches: it would be left at its first values."""
    model = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[0].running_mean.fill_(3.0)
    reestimate_statistics(model, [IMAGE])
    assert model[0].running_mean.tolist() == [3.0] * 3
    assert model[2].running_mean.abs().min() > 0


def test_statistics_that_cannot_be_estimated_are_refused_and_those_before_stay() -> None:
    with pytest.raises(ConfigError, match="has no batch-norm statistics to estimate"):
        reestimate_statistics(nn.Linear(3, 2), [torch.zeros(1, 3)])
    with pytest.raises(ConfigError, match="has no batch-norm statistics to estimate"):
        reestimate_statistics(nn.BatchNorm1d(2, track_running_stats=False), [torch.zeros(4, 2)])
    model = network()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match="there are no batches"):
        reestimate_statistics(model, [])
    with pytest.raises(RuntimeError):
        reestimate_statistics(model, [IMAGE, torch.zeros(1, 1)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model[1].momentum == 0.1


@pytest.mark.parametrize(
    "program",
    [
        "from sartor import fuse; from sartor.fuse import fuse as again",
        "import sartor.fuse; from sartor import fuse; from sartor.fuse import fuse as again",
        "from sartor.fuse import fuse as again; import sartor; fuse = sartor.fuse",
        "import sartor; fuse = sartor.fuse; import sartor.fuse; again = sartor.fuse",
    ],
)
@pytest.mark.slow
def test_the_name_is_the_function_in_whatever_order_it_is_imported(program: str) -> None:
    check = "; import inspect, sartor; assert inspect.isfunction(fuse); assert fuse is again is sartor.fuse"
    subprocess.run([sys.executable, "-c", program + check], check=True)
