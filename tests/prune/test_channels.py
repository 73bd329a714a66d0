from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from reference.channels import built, disturb, kept_by_torch_pruning, outputs, relative, worth_in_loops
from sartor.errors import ConfigError, PruningError
from sartor.fuse import fuse
from sartor.prune.channels import ChannelPlan, plan
from sartor.prune.channels.choosing import choose
from sartor.prune.channels.coupling import Coupling, couple
from sartor.prune.channels.importance import worth

IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
NETS = ("resnet20", "resnet56", "resnet18")
SLOW = (
    *("resnet164", "resnet164(preactivation=True)", "resnet50", "resnet101", "wrn-28-10", "mobilenetv2", "vit-s"),
    "vdcnn9",
)
SPARSITIES = (0.3, 0.5, 0.8)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def example_for(name: str) -> tuple[tuple[int, ...], torch.Tensor]:
    if not name.startswith("vdcnn"):
        return (3, 32, 32), IMAGE
    return (128,), torch.randint(60, (2, 128), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*NETS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_small_network_computes_what_the_dense_one_does_without_the_channels(name: str) -> None:
    shape, inputs = example_for(name)
    dense = disturb(built(name, shape))
    for sparsity in SPARSITIES:
        made = plan(dense, inputs, sparsity)
        left = {key: made.blank(key, weight.detach()) for key, weight in dense.named_parameters()}
        with torch.no_grad():
            wanted = torch.func.functional_call(dense.eval(), left, (inputs,))
        assert relative(outputs(made.shrink(dense), inputs), wanted) <= 1e-5
        small = disturb(made.shrink(dense), seed=2)
        wanted = outputs(small, inputs)
        for complement in ("zeros", "preserving"):
            assert relative(outputs(fuse(dense, small, made, complement=complement), inputs), wanted) <= 1e-5


@pytest.mark.parametrize(
    ("name", "sparsity", "count"),
    [
        ("resnet20", 0.5, 68_786),
        ("resnet14", 0.5, 44_370),
        ("resnet56", 0.5, 215_282),
        ("resnet110", 0.5, 435_026),
        ("resnet164", 0.5, 433_074),
        ("resnet18", 0.5, 2_797_610),
        ("resnet56", 0.6, 0.16 * 855_770),
        ("resnet56", 0.8, 0.04 * 855_770),
    ],
)
def test_parameter_counts_of_prunefuse(name: str, sparsity: float, count: float) -> None:
    dense = built(name)
    assert parameters(plan(dense, IMAGE, sparsity).shrink(dense)) == pytest.approx(count, rel=0.03)


def test_local_counts_are_exact() -> None:
    model = built("resnet56")
    for sparsity, widths in ((0.5, (8, 16, 32)), (0.6, (6, 13, 26)), (0.7, (5, 10, 19)), (0.8, (3, 6, 13)), (0.99, (1, 1, 1))):
        found = plan(model, IMAGE[:1], sparsity).groups
        for name, (kept, size) in found.items():
            assert kept == dict(zip((16, 32, 64), widths, strict=True))[size], name
    assert plan(model, IMAGE[:1], 0.0).sparsity == 0


def chain(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, each with weights of its own size."""
    layers: list[nn.Module] = []
    generator = torch.Generator().manual_seed(0)
    for number, (inputs, made) in enumerate(zip((4, *widths), (*widths, 2), strict=True)):
        layers += [nn.Linear(inputs, made), nn.ReLU()]
        with torch.no_grad():
            layers[-2].weight.copy_(torch.randn(made, inputs, generator=generator) * (1 + number))  # type: ignore[operator]
    return nn.Sequential(*layers[:-1])


def coupled(*widths: int) -> tuple[nn.Module, Coupling]:
    model = chain(*widths)
    return model, couple(model, torch.randn(1, 4))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 98), st.sampled_from(["global", "isomorphic"]))
@settings(max_examples=40)
def test_ranked_counts_are_exact_or_refused_in_words(widths: list[int], percent: int, scope: str) -> None:
    model, coupling = coupled(*widths)
    sparsity = percent / 100
    wanted = (sum(widths) * (100 - percent) * 2 + 100) // 200
    worths = worth(model, coupling, "l2", None)
    options = {"scope": scope, "normaliser": "none", "round_to": None, "full": coupling.sizes}
    if wanted < len(widths):
        with pytest.raises(PruningError, match=r"each of the \d+ groups needs one.*it can be at most 0"):
            choose(coupling, worths, sparsity, **options)  # type: ignore[arg-type]
    elif sparsity > 0 and wanted == sum(widths):
        with pytest.raises(PruningError, match="nothing can leave|lets no channel go.*it must be above"):
            choose(coupling, worths, sparsity, **options)  # type: ignore[arg-type]
    else:
        kept = choose(coupling, worths, sparsity, **options)  # type: ignore[arg-type]
        assert len(kept) == wanted
        assert all(bool(((kept >= where.start) & (kept < where.stop)).any()) for _, where in coupling.groups())


def test_raw_norms_over_the_whole_network_reach_the_sparsity_asked_for() -> None:
    model = built("resnet18")
    for sparsity in (0.5, 0.9, 0.98):
        made = plan(model, IMAGE[:1], sparsity, importance="group-norm", scope="global", normaliser="none")
        assert len(made.units) == round((1 - sparsity) * 2880)
        assert min(kept for kept, _ in made.groups.values()) >= 1
    theirs = kept_by_torch_pruning(model, IMAGE[:1], 0.9, together=True, normaliser=None)
    assert len(theirs["stage4.0.conv2.weight"]) > 400, "the trap: a group whose channels would all go is left whole"


@pytest.mark.parametrize("name", ["resnet56", "resnet18"])
@pytest.mark.parametrize("scope", ["local", "global"])
def test_kept_sets_are_those_of_torch_pruning(name: str, scope: str) -> None:
    model = disturb(built(name))
    mine = plan(model, IMAGE[:1], 0.5, importance="group-norm", scope=scope)
    theirs = kept_by_torch_pruning(model, IMAGE[:1], 0.5, together=scope == "global", normaliser="mean")
    assert len(theirs) > 20
    for weight, rows in theirs.items():
        whole = torch.arange(len(model.get_parameter(weight)))
        assert mine.kept.get(weight, {}).get(0, whole).tolist() == rows, weight


def test_isomorphic_groups_are_ranked_among_themselves() -> None:
    model = built("resnet56")
    made = plan(model, IMAGE[:1], 0.5, scope="isomorphic")
    assert made.sparsity == pytest.approx(0.5, abs=0.002)
    inner = {name: counts for name, counts in made.groups.items() if ".conv1" in name and name != "conv1"}
    kept, every = (sum(column) for column in zip(*inner.values(), strict=True))
    assert kept == (every + 1) // 2, "all inner layers are one set, whatever their width"
    assert len({counts[0] / counts[1] for counts in inner.values()}) > 1


def test_round_to_the_nearest_multiple_of_wide_groups() -> None:
    model = chain(15, 32, 40, 100)
    groups = plan(model, torch.randn(1, 4), 0.5, round_to=16).groups
    assert groups == {"0": (8, 15), "2": (16, 32), "4": (16, 40), "6": (48, 100)}
    assert plan(model, torch.randn(1, 4), 0.39, round_to=16).groups["4"] == (32, 40)


def test_steps_count_from_the_dense_network_and_compose() -> None:
    dense = disturb(built("resnet20"))
    whole, small = plan(dense, IMAGE[:1], 0.2), dense
    small = whole.shrink(dense)
    for sparsity in (0.35, 0.5):
        step = plan(small, IMAGE[:1], sparsity, after=whole)
        small, whole = step.shrink(small), whole.then(step)
        assert all(kept == int((1 - sparsity) * size + 0.5) for kept, size in whole.groups.values())
    assert [step["sparsity"] for step in whole.about] == [0.2, 0.35, 0.5]
    at_once = whole.shrink(dense)
    assert all(torch.equal(a, b) for a, b in zip(small.state_dict().values(), at_once.state_dict().values(), strict=True))
    vit = built("vit-s(depth=1, width=48, heads=4)")
    first = plan(vit, IMAGE, 0.25)
    both = first.then(plan(first.shrink(vit), IMAGE, 0.5, after=first))
    assert both.attributes == {"blocks.0.attention": {"num_heads": 2}}
    assert relative(outputs(both.shrink(vit), IMAGE), outputs(vit, IMAGE)) < 1


def test_plans_that_do_not_follow_each_other_are_refused() -> None:
    dense = built("resnet8")
    first = plan(dense, IMAGE[:1], 0.5)
    small = first.shrink(dense)
    with pytest.raises(PruningError, match="was not made on what the first one leaves"):
        first.then(first)
    with pytest.raises(PruningError, match="is not what the plan given as after leaves"):
        plan(dense, IMAGE[:1], 0.7, after=first)
    kept = plan(dense, IMAGE[:1], 0.5, keep=["stage1"])
    with pytest.raises(PruningError, match="cuts what the first one lets stay"):
        kept.then(plan(kept.shrink(dense), IMAGE[:1], 0.7))
    for wrong, which in ((built("resnet14"), "dense"), (small, "dense"), (built("resnet8(width=8)"), "dense")):
        with pytest.raises(PruningError, match=f"is not the {which} network of the plan: .*make the network with"):
            first.shrink(wrong)


@pytest.mark.parametrize("kind", ["l2", "group-norm"])
def test_importance_is_what_loops_find(kind: str) -> None:
    model = disturb(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 2)))
    coupling = couple(model, torch.randn(1, 3, 8, 8))
    assert worth(model, coupling, kind, None).tolist() == pytest.approx(worth_in_loops(model, coupling, kind))


def test_lamp_divides_by_all_that_are_as_large() -> None:
    model, coupling = coupled(5, 3)
    squares = worth(model, coupling, "group-norm", None)
    found = worth(model, coupling, "lamp", None)
    for where in (slice(0, 5), slice(5, 8)):
        for own, score in zip(squares[where].tolist(), found[where].tolist(), strict=True):
            larger = [other for other in squares[where].tolist() if other >= own]
            assert score == pytest.approx(own / sum(larger))
        assert found[where].max() == pytest.approx(1)


def test_scores_of_weights_are_summed_over_all_that_would_go() -> None:
    model, coupling = coupled(3)
    scores = {"0.weight": torch.arange(12.0).reshape(3, 4), "2.weight": torch.tensor([[1.0, 2, 3], [10, 20, 30]])}
    assert worth(model, coupling, scores, None).tolist() == [6 + 11, 22 + 22, 38 + 33]
    for wrong, words in (
        ({"1.weight": torch.zeros(1)}, "scores for '1.weight', which is no parameter. Did you mean"),
        ({"0.weight": torch.zeros(3)}, r"have shape \(3,\); they must have \(3, 4\)"),
        ({"2.bias": torch.zeros(2)}, "there are no scores for the channels of '0'"),
    ):
        with pytest.raises(ConfigError, match=words):
            worth(model, coupling, wrong, None)
    with pytest.raises(PruningError, match="is not finite"):
        worth(model, coupling, {"0.weight": torch.full((3, 4), torch.nan)}, None)


def test_chance_is_the_generator_s() -> None:
    model = built("resnet8")
    first, same, other = (
        plan(model, IMAGE[:1], 0.5, importance="random", generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.units, same.units)
    assert not torch.equal(first.units, other.units)
    with pytest.raises(ConfigError, match="importance is 'random', but there is no generator"):
        plan(model, IMAGE[:1], 0.5, importance="random")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 1.0}, r"sparsity is 1; it must lie in \[0, 1\)"),
        ({"sparsity": 50}, "sparsity is 50; .* Did you mean 0.5?"),
        ({"sparsity": "half"}, r"sparsity is 'half'; it must be a number in \[0, 1\)"),
        ({"importance": "l1"}, "importance is 'l1'; it must be one of l2, group-norm, lamp, random"),
        ({"scope": "layer"}, "scope is 'layer'; it must be one of local, global, isomorphic"),
        ({"scope": "global", "normaliser": "max"}, "normaliser is 'max'; it must be one of mean, none"),
        ({"normaliser": "mean"}, "normaliser does nothing in a local scope"),
        ({"round_to": 0}, "round_to is 0; it must be a whole number of at least 1"),
        ({"sparsity": 0.005}, "lets no channel go, for the widest group has 64; it must be above 0.0078"),
        ({"sparsity": 0.999, "scope": "global"}, r"keeps 0 of 272 channels.*it can be at most 0.9\d+"),
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, PruningError), match=words):
        plan(built("resnet8"), IMAGE[:1], **{"sparsity": 0.5, **options})  # type: ignore[arg-type]


def test_kept_indices_say_where_each_weight_was() -> None:
    dense = disturb(built("resnet8"))
    made = plan(dense, IMAGE[:1], 0.5)
    small = made.shrink(dense).state_dict()
    for name, tensor in dense.state_dict().items():
        for dim, places in made.kept.get(name, {}).items():
            assert torch.equal(places, places.unique())
            tensor = tensor.index_select(dim, places)
        assert torch.equal(tensor, small[name]), name
    assert set(made.kept["stage2.0.conv1.weight"]) == {0, 1}
    assert "num_batches_tracked" not in " ".join(made.kept)


def test_a_plan_and_a_network_are_the_same_in_a_new_process(tmp_path: Path) -> None:
    dense = disturb(built("vit-s(depth=2, width=48, heads=4)"))
    made = plan(dense, IMAGE, 0.5)
    small = disturb(made.shrink(dense), seed=4)
    made.save(tmp_path / "plan.json")
    save_file(small.state_dict(), tmp_path / "model.safetensors")
    save_file({"inputs": IMAGE}, tmp_path / "inputs.safetensors")
    program = f"""
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from sartor import ChannelPlan
from sartor.models.build import build_model
torch.set_num_threads(1)
folder = Path({str(tmp_path)!r})
dense = build_model("vit-s(depth=2, width=48, heads=4)", classes=10, input_shape=(3, 32, 32), seed=7)
small = ChannelPlan.load(folder / "plan.json").shrink(dense)
small.load_state_dict(load_file(folder / "model.safetensors"))
with torch.no_grad():
    save_file({{"outputs": small.eval()(load_file(folder / "inputs.safetensors")["inputs"])}}, folder / "outputs.safetensors")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert torch.equal(load_file(tmp_path / "outputs.safetensors")["outputs"], outputs(small, IMAGE))
    again = ChannelPlan.load(tmp_path / "plan.json")
    assert again.groups == made.groups
    assert again.about == made.about
    fused = [fuse(dense, small, either, complement="preserving").state_dict() for either in (made, again)]
    assert all(torch.equal(fused[0][name], fused[1][name]) for name in fused[0])


def test_damaged_plan_files_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan(built("resnet8"), IMAGE[:1], 0.5).save(path)
    text = path.read_text()
    content = json.loads(text)
    for damaged, words in (
        (text[:-100], "is no plan, or a damaged one .*save it anew"),
        ("[1, 2]", "is no plan, or a damaged one"),
        ("{}", "is no plan of format 1 .its format: none.; save it anew"),
        (text.replace('"format": 1', '"format": 9'), "is no plan of format 1 .its format: 9."),
        (json.dumps(content | {"kept": content["kept"][1:]}), "was changed since it was saved, or damaged"),
        (json.dumps(content | {"shapes": {}}), "was changed since it was saved, or damaged"),
    ):
        path.write_text(damaged)
        with pytest.raises(PruningError, match=words) as caught:
            ChannelPlan.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(PruningError, match="there is no plan .*plan.save"):
        ChannelPlan.load(tmp_path / "none.json")


def test_a_plan_for_resnet50_takes_a_second() -> None:
    model = built("resnet50")
    plan(model, IMAGE[:1], 0.5)
    started = time.process_time()
    plan(model, IMAGE[:1], 0.5)
    assert time.process_time() - started < 1.5, "1 s on an idle machine"
