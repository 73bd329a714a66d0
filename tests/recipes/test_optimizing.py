import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import sartor
from sartor.data.formats import Splits, digits
from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.recipes import Dense, SWaST
from sartor.recipes.optimizing import make_optimizer, parameter_groups
from sartor.schedules import one_cycle
from sartor.train import Trainer

RATES = {"lr": 0.1, "weight_decay": 0.02}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits()


def norms() -> nn.Module:
    """Every kind of normalisation, one of them without parameters, one without a shift."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(),
        nn.LayerNorm(144),
        nn.RMSNorm(144),
        nn.Linear(144, 10),
    )


def named(model: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of every parameter by name; each is in one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.mark.parametrize("bias_lr", [1.0, 16.0])
@pytest.mark.parametrize("decay_norms", [True, False])
def test_groups_share_out_the_parameters(bias_lr: float, decay_norms: bool) -> None:
    model = norms()
    groups = named(model, parameter_groups(model, **RATES, bias_lr=bias_lr, decay_norms=decay_norms))
    assert set(groups) == {name for name, _ in model.named_parameters()}
    for name, (lr, decay) in groups.items():
        norm, shift = name.split(".")[0] in "12367", name.endswith("bias")
        assert lr == pytest.approx(0.1 * (bias_lr if norm and shift else 1))
        assert lr * decay == pytest.approx(0.002 if decay_norms or not norm else 0), "a step decays all alike"


def test_by_default_there_is_one_group_in_the_order_of_the_model() -> None:
    model = norms()
    (group,) = parameter_groups(model, **RATES)
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    assert {name: group[name] for name in ("lr", "initial_lr", "weight_decay")} == {**RATES, "initial_lr": 0.1}


def test_what_is_frozen_is_in_no_group_and_what_is_shared_is_in_one() -> None:
    model = norms()
    model[0].weight.requires_grad_(False)
    model.add_module("again", model[1])
    held = [id(p) for group in parameter_groups(model, **RATES, bias_lr=2.0) for p in group["params"]]
    assert id(model[0].weight) not in held
    assert len(held) == len(set(held)) == len(list(model.parameters())) - 1
    with pytest.raises(ConfigError, match="nothing to train"):
        make_optimizer(Dense(), nn.ReLU())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_schedule_moves_every_group_from_its_own_rate(splits: Splits, optimizer: str) -> None:
    """Watched while it trains: at each step of one-cycle, both rates are the step's share of the initial ones."""
    seen = []
    original = Trainer.train_step

    def watching(self, *args):
        seen.append(sorted({group["lr"] for group in self.optimizer.param_groups}))
        return original(self, *args)

    recipe = Dense(epochs=2, batch_size=128, probe=0, optimizer=optimizer, lr=0.01, bias_lr=8.0, schedule="one-cycle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", watching)
        recipe.fit(net(), splits.train)
    steps = len(seen)
    assert seen == [[0.01 * one_cycle(step, steps, 0.2), 0.08 * one_cycle(step, steps, 0.2)] for step in range(steps)]


def test_one_step_by_hand() -> None:
    """Plain sgd: the shift moves `bias_lr` times as far, and decays as far as everything else."""
    model = nn.Sequential(nn.LayerNorm(2))
    with torch.no_grad():
        model[0].bias.fill_(1.0)
    recipe = Dense(lr=0.1, momentum=0.0, weight_decay=0.5, bias_lr=4.0)
    optimizer = make_optimizer(recipe, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones(2)
    optimizer.step()
    assert model[0].weight.tolist() == pytest.approx([1 - 0.1 * (1 + 0.5)] * 2)
    assert model[0].bias.tolist() == pytest.approx([1 - 0.4 - 0.1 * 0.5] * 2)


def test_masks_and_their_moves_reach_every_group(splits: Splits) -> None:
    recipe = SWaST.strong(
        epochs=4, batch_size=64, probe=0, fraction=0.3, every=2, selector="random", variant="whole", sparsity=0.5,
        pruner="rigl(every=3)", bias_lr=16.0, decay_norms=False,
    )  # fmt: skip
    moves = []
    original = sartor.prune.masks.Masks.move

    def watched(self, name: str, new: torch.Tensor) -> None:
        changed = self[name] ^ new
        original(self, name, new)
        memory = self._optimizer.state[self.parameter(name)].get("momentum_buffer")
        moves.append(memory is not None and bool(memory.any()) and not bool(memory[changed].any()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sartor.prune.masks.Masks, "move", watched)
        result = recipe.fit(net(), splits.train, splits.test)
    assert len(moves) > len(result.masks.names)
    assert all(moves[len(result.masks.names) :]), "momentum of what died or was born is gone, of the others it is not"
    for name in result.masks.names:
        assert not dict(result.model.named_parameters())[name][~result.masks[name]].any()


@pytest.mark.parametrize("options", [{"bias_lr": 4.0}, {"decay_norms": False}])
def test_what_reaches_nothing_is_refused_before_anything_runs(splits: Splits, tmp_path: Path, options: dict) -> None:
    plain = build_model("fc", classes=10, input_shape=(1, 8, 8), seed=0)
    with pytest.raises(ConfigError, match=f"{next(iter(options))} has no effect: .*normalisation layer"):
        Dense(epochs=1, **options).fit(plain, splits.train, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="decay_norms has no effect where nothing decays"):
        Dense(weight_decay=0.0, decay_norms=False)


def net() -> nn.Module:
    return build_model("cnn(width=4)", classes=10, input_shape=(1, 8, 8), seed=0)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_takes_its_steps_at_once_and_they_are_the_same(optimizer: str) -> None:
    """Beside torch's step written out weight by weight, through a state that was saved and read back."""
    model = net()
    plain = copy.deepcopy(model)
    recipe = Dense(optimizer=optimizer, lr=0.01, weight_decay=0.1)
    fused, literal = make_optimizer(recipe, model), getattr(torch.optim, {"adam": "Adam", "adamw": "AdamW"}[optimizer])
    by_hand = literal(plain.parameters(), lr=0.01, weight_decay=0.1, foreach=False)
    assert all(group["fused"] for group in fused.param_groups)
    for step in range(6):
        if step == 3:
            kept, fused = fused.state_dict(), make_optimizer(recipe, model)
            fused.load_state_dict(kept)
        for number, (parameter, other) in enumerate(zip(model.parameters(), plain.parameters())):
            source = torch.Generator().manual_seed(100 * step + number)
            parameter.grad = torch.randn(parameter.shape, generator=source)
            other.grad = parameter.grad.clone()
        fused.step()
        by_hand.step()
    for parameter, other in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(parameter, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_leaves_to_torch_what_cannot_be_done_at_once(optimizer: str) -> None:
    model = nn.Linear(2, 2, device="meta")
    made = make_optimizer(Dense(optimizer=optimizer), model)
    assert not any(group["fused"] for group in made.param_groups)
