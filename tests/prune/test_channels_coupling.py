from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.channels import built, disturb, outputs, relative
from sartor.errors import ConfigError, PruningError
from sartor.fuse import fuse
from sartor.prune.channels import ChannelPlan, plan
from sartor.prune.channels.coupling import couple

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


class Layers(nn.Module):
    """Modules by name, and a forward that a test writes."""

    def __init__(self, forward: Callable[[Layers, Tensor], Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.head = nn.Linear(4, 3)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def conv(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)


def pooled(layers: Layers, x: Tensor) -> Tensor:
    return layers.head(x.mean((2, 3)))


def squeeze(m: Layers, x: Tensor) -> Tensor:
    x = F.relu(m.a(x))
    gate = torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True)))))
    return pooled(m, m.b(x * gate))


def attend(m: Layers, x: Tensor) -> Tensor:
    x = m.a(x)
    return pooled(m, m.b(x * torch.sigmoid(m.map(x))))


def tokens(m: Layers, x: Tensor) -> Tensor:
    x = m.a(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(len(x), -1, -1), x], 1) + m.places
    return m.head(m.b(x)[:, 0])


def mixer(m: Layers, x: Tensor) -> Tensor:
    x = m.a(x).flatten(2)
    x = x + m.two(F.gelu(m.one(x)))
    return m.head(m.b(x.mean(2)))


def split(m: Layers, x: Tensor) -> Tensor:
    value, gate = m.a(x).chunk(2, 1)
    return pooled(m, m.b(value * torch.sigmoid(gate)))


def twice(m: Layers, x: Tensor) -> Tensor:
    return pooled(m, m.b(F.relu(m.shared(F.relu(m.shared(F.relu(m.a(x))))))))


def sides(m: Layers, x: Tensor) -> Tensor:
    one, other = F.relu(m.a(x)), F.relu(m.c(x))
    return pooled(m, m.b(torch.cat([one, other, one + 1], 1)))


def padded(m: Layers, x: Tensor) -> Tensor:
    return pooled(m, m.b(F.pad(m.a(F.pad(x, (1, 1, 1, 1))), (0, 2, 1, 0), mode="replicate")))


ODD: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[int, int]]]] = {
    "sequence": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.n(m.a(x)))), a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "concatenation": (
        lambda: Layers(sides, a=conv(3, 8), c=conv(3, 6), b=conv(22, 4)),
        {"a": (4, 8), "c": (3, 6), "b": (2, 4)},
    ),
    "shared layer": (
        lambda: Layers(twice, a=conv(3, 8), shared=conv(8, 8), b=conv(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "squeeze and excite": (
        lambda: Layers(squeeze, a=conv(3, 8), down=nn.Conv2d(8, 4, 1), up=nn.Conv2d(4, 8, 1), b=conv(8, 4)),
        {"a": (4, 8), "down": (2, 4), "b": (2, 4)},
    ),
    "one map for all channels": (
        lambda: Layers(attend, a=conv(3, 8), map=nn.Conv2d(8, 1, 1), b=conv(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "tokens": (
        lambda: Layers(
            tokens,
            a=conv(3, 8),
            token=nn.Parameter(torch.randn(1, 1, 8)),
            places=nn.Parameter(torch.randn(1, 65, 8)),
            b=nn.Linear(8, 4),
        ),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "a layer over places": (
        lambda: Layers(mixer, a=conv(3, 8), one=nn.Linear(64, 10), two=nn.Linear(10, 64), b=nn.Linear(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "halves that meet": (lambda: Layers(split, a=conv(3, 16), b=conv(8, 4)), {"a": (4, 8), "b": (2, 4)}),
    "gated linear unit": (
        lambda: Layers(lambda m, x: pooled(m, m.b(F.glu(m.a(x), 1))), a=conv(3, 16), b=conv(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "borders": (lambda: Layers(padded, a=conv(3, 8), b=conv(8, 4)), {"a": (4, 8), "b": (2, 4)}),
    "depthwise": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.d(m.a(x)))), a=conv(3, 8), d=conv(8, 8, 8), b=conv(8, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "depthwise that widens": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.d(m.a(x)))), a=conv(3, 8), d=conv(8, 16, 8), b=conv(16, 4)),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "whole groups": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.g(m.a(x)))), a=conv(3, 12), g=conv(12, 18, 6), b=conv(18, 4)),
        {"a": (3, 6), "b": (2, 4)},
    ),
    "group norm": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.n(m.a(x)))), a=conv(3, 12), n=nn.GroupNorm(6, 12), b=conv(12, 4)),
        {"a": (3, 6), "b": (2, 4)},
    ),
    "instance norm and a slope each": (
        lambda: Layers(
            lambda m, x: pooled(m, m.b(m.p(m.n(m.a(x))))),
            a=conv(3, 8),
            n=nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
            p=nn.PReLU(8),
            b=conv(8, 4),
        ),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "transposed": (
        lambda: Layers(
            lambda m, x: pooled(m, m.b(m.g(m.t(m.a(x))))),
            a=conv(3, 8),
            t=nn.ConvTranspose2d(8, 6, 2, 2),
            g=nn.ConvTranspose2d(6, 12, 2, 2, groups=3),
            b=conv(12, 4),
        ),
        {"a": (4, 8), "t": (2, 3), "b": (2, 4)},
    ),
    "flattened": (
        lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32, 6), nn.Linear(6, 3)),
        {"0": (4, 8), "3": (3, 6)},
    ),
    "a scale that is one number": (
        lambda: Layers(
            lambda m, x: pooled(m, m.b(m.a(x) * m.scale)), a=conv(3, 8), scale=nn.Parameter(torch.ones(1)), b=conv(8, 4)
        ),
        {"a": (4, 8), "b": (2, 4)},
    ),
    "a weight that is multiplied from the left": (
        lambda: Layers(
            lambda m, x: m.head((m.w @ m.a(x).flatten(2).mean(2).t()).t()), a=conv(3, 8), w=nn.Parameter(torch.randn(4, 8))
        ),
        {"a": (4, 8), "": (2, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_shrink_and_fuse(name: str) -> None:
    make, groups = ODD[name]
    dense = disturb(seeded(make))
    made = plan(dense, IMAGE, 0.5)
    assert made.groups == groups
    small = disturb(made.shrink(dense), seed=2)
    wanted = outputs(small, IMAGE)
    for complement in ("zeros", "preserving", "replicate"):
        generator = torch.Generator().manual_seed(0)
        assert relative(outputs(fuse(dense, small, made, complement=complement, generator=generator), IMAGE), wanted) < 1e-5


def test_texts_and_tied_tables() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.inner = nn.Embedding(20, 8), nn.Linear(8, 8)
            self.out = nn.Linear(8, 20, bias=False)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.inner(self.table(x))))

    dense, text = seeded(Tied), torch.randint(20, (2, 7))
    made = plan(dense, text, 0.5)
    small = made.shrink(dense)
    assert isinstance(small, Tied)
    assert small.out.weight is small.table.weight
    assert tuple(small.table.weight.shape) == (20, 4)
    assert small.table.embedding_dim == small.inner.in_features == 4
    disturb(small)
    assert relative(outputs(fuse(dense, small, made, complement="zeros"), text), outputs(small, text)) < 1e-5


def test_inputs_may_be_tuples_and_dicts() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.out = nn.Linear(3, 8), nn.Linear(5, 8), nn.Linear(8, 2)

        def forward(self, one: Tensor, two: Tensor) -> dict[str, Tensor]:
            return {"logits": self.out(F.relu(self.one(one) + self.two(two)))}

    model, one, two = seeded(Two), torch.randn(4, 3), torch.randn(4, 5)
    first, second = plan(model, (one, two), 0.5), plan(model, {"two": two, "one": one}, 0.5)
    assert first.groups == second.groups == {"one": (4, 8)}


def shuffled(m: Layers, x: Tensor) -> Tensor:
    x = m.a(x)
    return pooled(m, m.b(F.channel_shuffle(x, 2)))


def recurrent(m: Layers, x: Tensor) -> Tensor:
    return m.head(m.b(m.r(F.relu(m.a(x.flatten(2))))[0])[:, 0])


REFUSED: dict[str, tuple[Callable[[], nn.Module], str, tuple[str, ...]]] = {
    "a reshape with numbers": (
        lambda: Layers(lambda m, x: m.head(m.b(m.a(x).mean((2, 3)).view(-1, 8))), a=conv(3, 8), b=nn.Linear(8, 4)),
        "does not run with fewer channels.*its code fixes a size.*keep=",
        ("a",),
    ),
    "channels made by the code": (
        lambda: Layers(lambda m, x: pooled(m, m.b(m.a(x) + torch.arange(8.0).view(8, 1, 1))), a=conv(3, 8), b=conv(8, 4)),
        r"cannot lose the channels of 'a': channels meet a tensor of a size that the code fixes.*keep=\['a'\]",
        ("a",),
    ),
    "channels filled up with zeros": (
        lambda: Layers(lambda m, x: pooled(m, m.b(F.pad(m.a(x), (0, 0, 0, 0, 1, 1)) + m.c(x))), a=conv(3, 6), c=conv(3, 8), b=conv(8, 4)),
        "cannot lose the channels of 'c'",
        ("a", "c"),
    ),
    "an order of the channels": (
        lambda: Layers(shuffled, a=conv(3, 16), b=conv(16, 4)),
        "computes something else once channels leave",
        ("a",),
    ),
    "an operation that nobody knows": (
        lambda: Layers(recurrent, a=nn.Linear(64, 6), r=nn.LSTM(6, 6, batch_first=True), b=nn.Linear(6, 4)),
        r"cannot lose the channels of 'a': .* is not known in 'r' .LSTM.*keep=\['a', 'r'\]",
        ("a", "r"),
    ),
    "a weight that is computed": (
        lambda: Layers(
            lambda m, x: pooled(m, m.c(F.conv2d(m.a(x), m.b.weight.tanh()))), a=conv(3, 8), b=conv(8, 4), c=nn.Sequential(conv(4, 8), conv(8, 4))
        ),
        "cannot lose the channels of 'b': a weight is no parameter but computed of one",
        ("a", "b"),
    ),
    "a first weight that is computed": (
        lambda: Layers(lambda m, x: m.head(m.b(F.linear(x.mean((2, 3)), m.a.weight * 2))), a=nn.Linear(3, 8), b=nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))),
        "cannot lose the channels of 'a': a weight is no parameter but computed of one",
        ("a",),
    ),
    "a single head": (
        lambda: Layers(lambda m, x: m.head(m.b((m.a(x).flatten(2) @ m.a(x).flatten(2).mT).softmax(-1)).mean(1)), a=conv(3, 8), b=nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))),
        "cannot lose the channels of 'a': all of them go together",
        ("a",),
    ),
    "heads that torch fixes": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        "'self_attn' is a torch.nn.MultiheadAttention, which cannot lose heads",
        ("self_attn",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_code_fixes_is_refused_in_words_and_can_stay(name: str) -> None:
    make, words, keep = REFUSED[name]
    model = seeded(make)
    example = torch.randn(2, 5, 8) if isinstance(model, nn.TransformerEncoderLayer) else IMAGE
    with pytest.raises(PruningError, match=words):
        plan(model, example, 0.5)
    made = plan(model, example, 0.5, keep=keep)
    assert made.sparsity == pytest.approx(0.5)
    for module in keep:
        assert not any(name.startswith(f"{module}.") and 0 in kept for name, kept in made.kept.items())


def test_padding_shortcuts_are_refused_and_their_stages_can_stay() -> None:
    model, image = built("resnet8(shortcut=padding)"), torch.zeros(1, 3, 32, 32)
    with pytest.raises(PruningError, match=r"cannot lose the channels of 'stage2.0.conv2'.*keep="):
        plan(model, image, 0.5)
    made = plan(model, image, 0.5, keep=["conv1", "stage?.*.conv2"])
    assert made.groups == {"stage1.0.conv1": (8, 16), "stage2.0.conv1": (16, 32), "stage3.0.conv1": (32, 64)}


def test_frozen_parts_lose_channels_and_stay_frozen() -> None:
    model = built("resnet8")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.get_parameter("classifier.weight").requires_grad_(True)
    made = plan(model, torch.zeros(1, 3, 32, 32), 0.5)
    assert made.sparsity == 0.5
    trained = [name for name, parameter in made.shrink(model).named_parameters() if parameter.requires_grad]
    assert trained == ["classifier.weight"]


def test_the_network_and_the_random_state_stay_as_they_are() -> None:
    model = disturb(built("resnet8")).train()
    model.get_submodule("stage2").eval()
    model.get_parameter("conv1.weight").grad = torch.ones(16, 3, 3, 3)
    modes = [module.training for module in model.modules()]
    before = {name: (tensor, tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}
    state = torch.random.get_rng_state()
    made = plan(model, torch.zeros(1, 3, 32, 32), 0.5)
    small = made.shrink(model)
    assert [module.training for module in model.modules()] == modes
    assert [module.training for module in small.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    after = model.state_dict(keep_vars=True)
    assert all(after[name] is tensor and torch.equal(tensor, value) for name, (tensor, value) in before.items())
    assert torch.equal(model.get_parameter("conv1.weight").grad, torch.ones(16, 3, 3, 3))  # type: ignore[arg-type]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in small.parameters())
    assert not {id(tensor) for tensor in small.parameters()} & {id(tensor) for tensor in model.parameters()}


def test_plans_hold_no_network_and_know_nothing_of_each_other() -> None:
    one, image = built("resnet8"), torch.zeros(1, 3, 32, 32)
    first = plan(one, image, 0.5)
    other = plan(built("vit-s(depth=1, width=24, heads=2)"), image, 0.5)
    again = plan(one, image, 0.5)
    assert torch.equal(first.units, again.units)
    assert list(first.kept) == list(again.kept)
    assert other.attributes
    assert not again.attributes
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None


def test_concatenations_cost_no_more_than_their_channels() -> None:
    class Dense(nn.Module):
        def __init__(self, layers: int) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(3 + 12 * i, 12, 3, padding=1) for i in range(layers))
            self.out = nn.Linear(3 + 12 * layers, 5)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.convs:
                x = torch.cat([x, F.relu(layer(x))], 1)
            return self.out(x.mean((2, 3)))

    model = seeded(lambda: Dense(58))
    started = time.process_time()
    made = plan(model, IMAGE, 0.5)
    assert time.process_time() - started < 5
    assert made.groups == {f"convs.{i}": (6, 12) for i in range(58)}


def test_embeddings_stay_unless_asked_for() -> None:
    model, image = built("vit-s(depth=2, width=48, heads=4)"), torch.randn(1, 3, 32, 32)
    made = plan(model, image, 0.5)
    heads = {f"blocks.{i}.attention": {"num_heads": 2} for i in range(2)}
    assert made.attributes == heads
    assert {name.split(".")[-1] if "qkv" in name else name: kept for name, kept in made.groups.items()} == {
        "qkv": (2, 4),
        "blocks.0.mlp.0": (96, 192),
        "blocks.1.mlp.0": (96, 192),
    }
    assert made.kept["blocks.0.attention.qkv.weight"][0].shape == (72,)
    assert "positions" not in made.kept
    narrow = plan(model, image, 0.5, exact=False)
    assert narrow.groups["patches"] == (24, 48)
    small = narrow.shrink(model)
    assert tuple(small.get_parameter("positions").shape) == (1, 65, 24)
    assert outputs(small, image).shape == (1, 10)


def test_bad_models_and_examples() -> None:
    model = built("resnet8")
    with pytest.raises(PruningError, match=r"ResNet does not take the example of shape \(1, 1, 32, 32\).*give a batch"):
        plan(model, torch.zeros(1, 1, 32, 32), 0.5)
    with pytest.raises(ConfigError, match="the example is a list; give a tensor"):
        plan(model, [torch.zeros(1, 3, 32, 32)], 0.5)  # type: ignore[arg-type]
    for bare in (nn.ReLU(), nn.Linear(4, 2), nn.LayerNorm(4)):
        with pytest.raises(PruningError, match="has no channels that can leave"):
            plan(bare, torch.zeros(1, 4), 0.5)
    with pytest.raises(PruningError, match="'0.weight' has no shape yet"):
        plan(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), torch.zeros(1, 4), 0.5)
    with pytest.raises(PruningError, match="keep='stage9' matches no module that makes channels.*'stage"):
        plan(model, torch.zeros(1, 3, 32, 32), 0.5, keep=["stage9"])


def test_half_precision_and_memory_layout() -> None:
    model = built("resnet8").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(1, 3, 32, 32)
    small = plan(model, image, 0.5).shrink(model)
    assert small.get_parameter("stage1.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)
    low = built("resnet8").bfloat16()
    made = plan(low, image.bfloat16(), 0.5)
    assert {parameter.dtype for parameter in made.shrink(low).parameters()} == {torch.bfloat16}


def test_units_are_numbered_by_group_in_the_order_of_their_places() -> None:
    coupling = couple(built("resnet8"), torch.zeros(1, 3, 32, 32))
    first = coupling.axes["conv1.weight", 0]
    assert torch.equal(first, torch.arange(16))
    assert torch.equal(coupling.axes["stage1.0.bn2.running_var", 0], first)
    assert torch.equal(coupling.axes["stage2.0.conv1.weight", 1], first)
    assert coupling.read >= {("stage2.0.conv1.weight", 1), ("classifier.weight", 1)}
    assert ("classifier.weight", 0) not in coupling.axes
    assert isinstance(ChannelPlan(coupling, torch.arange(coupling.units)).sparsity, float)
