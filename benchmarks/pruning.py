"""What pruning saves in seconds, and what it costs: each figure beside its bar, and beside what a paper has realised.

    python benchmarks/pruning.py [--quick] [steps rounding compaction plans rigl]

steps       training steps of small networks against dense ones, as a share of what the FLOPs promise
rounding    round_to=16 against widths as they come
compaction  networks whose masks have emptied channels, before and after these are cut out; masks that have not
plans       the time that a plan takes, and Torch-Pruning's for the same network where it is installed
rigl        RigL's move against two full sorts, and what masks cost beside a training step

One thread, one process. All sides of a figure take turns, there and back; times are medians of process CPU time, wall
times follow in brackets. A ratio is the median of the rounds' own ratios, so that a slow round counts on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from sartor.costs import count_flops
from sartor.models.build import build_model
from sartor.precision import arithmetic
from sartor.prune import Masks, RigL, prunable
from sartor.prune.channels import ChannelPlan, compact, plan
from sartor.prune.rewiring import drop_and_grow

SHAPE = (3, 32, 32)
EVERY = 100
MINUTES = {
    ("resnet18", 0.5): (85.68, 61.15),
    ("resnet56", 0.5): (127.67, 72.55),
    ("resnet56", 0.8): (127.67, 67.23),
}
"""Dense and small network's training on CIFAR-10, by Table 29 of Yehya et al. 2026 (PruneFuse)."""

RANGE = "30-59 %"
"""What all of Table 29 realises at p = 0.5: least a ResNet-110 on CIFAR-100, most a ResNet-50 on ImageNet."""

Task = Callable[[], object]


@dataclass
class Times:
    cpu: list[float]
    wall: list[float]

    def __str__(self) -> str:
        return f"{1e3 * self.seconds:.0f} ({1e3 * statistics.median(self.wall):.0f})"

    @property
    def seconds(self) -> float:
        return statistics.median(self.cpu)

    def over(self, other: Times) -> float:
        return statistics.median(mine / theirs for mine, theirs in zip(self.cpu, other.cpu))


def in_turns(tasks: Mapping[str, Task], rounds: int, loops: int = 1) -> dict[str, Times]:
    """Run each task once, then all in turns; the times are of one loop."""
    found = {name: Times([], []) for name in tasks}
    for task in tasks.values():
        task()
    for turn in range(rounds):
        for name in list(tasks)[:: -1 if turn % 2 else 1]:
            cpu, wall = once(tasks[name], loops)
            found[name].cpu.append(cpu / loops)
            found[name].wall.append(wall / loops)
    return found


def once(task: Task, loops: int = 1) -> tuple[float, float]:
    """Return the CPU and the wall seconds of so many runs of a task."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(loops):
        task()
    return time.process_time() - cpu, time.perf_counter() - wall


class Bars:
    """Says whether figures keep to their bars, and counts those that do not; small cases are not judged."""

    def __init__(self, judging: bool) -> None:
        self.judging, self.missed = judging, 0

    def least(self, figure: float, bar: float, form: str) -> str:
        return self._said(figure >= bar, f">= {form}")

    def most(self, figure: float, bar: float, form: str) -> str:
        return self._said(figure <= bar, f"<= {form}")

    def _said(self, kept: bool, bar: str) -> str:
        if not self.judging:
            return bar
        self.missed += not kept
        return f"{bar}  {'pass' if kept else 'MISSED'}"


def network(name: str, size: int = 32) -> nn.Module:
    return build_model(name, classes=10, input_shape=(3, size, size), seed=0)


def flops(model: nn.Module) -> float:
    return count_flops(model, torch.zeros(1, *SHAPE)).forward


def stepping(model: nn.Module, batch: int, precision: str = "fp32", shape: tuple[int, ...] = SHAPE) -> Task:
    """Return a training step on one made-up batch: forward, backward, SGD with momentum; channels last."""
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, *shape, generator=source).to(memory_format=torch.channels_last)
    targets = torch.randint(10, (batch,), generator=source)

    def step() -> None:
        optimizer.zero_grad()
        with arithmetic(precision, inputs.device):
            loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()

    return step


def share(part: float) -> str:
    return f"{100 * part:.0f} %"


def published(name: str, p: float, promised: float) -> str:
    """Return the share of these FLOPs that the paper's minutes realise, or that of all its networks."""
    dense, small = MINUTES.get((name, p), (0.0, 1.0))
    return share(dense / small / promised) if dense else RANGE if p == 0.5 else ""


REALISED = (
    f"{'':<38} {'ms before':>15} {'ms after':>15} {'faster':>7} {'FLOPs':>7} {'realised':>8}  {'Table 29':>8}  bar"
)


def realised(what: str, before: Times, after: Times, promised: float, paper: str = "", bar: str = "") -> str:
    faster = before.over(after)
    figures = f"{faster:>6.2f}x {promised:>6.2f}x {share(faster / promised):>8}"
    return f"{what:<38} {before!s:>15} {after!s:>15} {figures}  {paper:>8}  {bar}".rstrip()


def steps(quick: bool, bars: Bars) -> None:
    print("Training steps, 32 x 32; before: dense, after: small")
    print(REALISED)
    for name, full, bar in (("resnet18", 32, 0.85), ("resnet20", 128, 0.55), ("resnet56", 128, 0.55)):
        batch = 8 if quick else full
        dense = network(name)
        small = {p: plan(dense, torch.zeros(1, *SHAPE), p).shrink(dense) for p in (0.5, 0.8)}
        promised = {p: flops(dense) / flops(model) for p, model in small.items()}
        for precision in ("fp32", "bf16"):
            models = {"dense": dense, **{str(p): model for p, model in small.items()}}
            tasks = {key: stepping(model, batch, precision) for key, model in models.items()}
            times = in_turns(tasks, 3 if quick else 5)
            for p, ratio in promised.items():
                before, after = times["dense"], times[str(p)]
                reached, held = before.over(after) / ratio, (precision, p) == ("fp32", 0.5)
                said = bars.least(reached, bar, share(bar)) if held else ""
                what, paper = f"{name}, batch {batch}, p = {p}, {precision}", published(name, p, ratio)
                print(realised(what, before, after, ratio, paper, said), flush=True)


def rounded_up(found: ChannelPlan, multiple: int) -> ChannelPlan:
    """Return the plan that keeps the next multiple of each group's kept channels: the first ones, for their time."""
    units: list[Tensor] = []
    for (kept, size), (_, where) in zip(found.groups.values(), found.coupling.groups()):
        units.append(torch.arange(min(size, -(-kept // multiple) * multiple)) + where.start)
    return replace(found, units=torch.cat(units))


def rounding(quick: bool, bars: Bars) -> None:
    batch, example = 8 if quick else 32, torch.zeros(1, *SHAPE)
    print(f"Rounding to 16, training steps of a ResNet-18, batch {batch}")
    print(f"{'':<38} {'ms unrounded':>15} {'ms rounded':>15} {'time':>7} {'FLOPs':>7}  widths; bar")
    dense = network("resnet18")
    for p in (0.6,) if quick else (0.3, 0.4, 0.6):
        plans = {"as it comes": plan(dense, example, p), "nearest": plan(dense, example, p, round_to=16)}
        plans["up"] = rounded_up(plans["as it comes"], 16)
        models = {kind: found.shrink(dense) for kind, found in plans.items()}
        widths = {kind: sorted({kept for kept, _ in found.groups.values()}) for kind, found in plans.items()}
        for precision in ("bf16", "fp32"):
            tasks = {kind: stepping(model, batch, precision) for kind, model in models.items()}
            times = in_turns(tasks, 3 if quick else 7)
            for kind in ("nearest", "up"):
                ratio = times[kind].over(times["as it comes"])
                held = (precision, kind) == ("bf16", "nearest")
                said = bars.most(ratio, 1.05, "1.05x") if held else ""
                sides = f"{times['as it comes']!s:>15} {times[kind]!s:>15}"
                more = flops(models[kind]) / flops(models["as it comes"])
                change = f"{widths['as it comes']} to {widths[kind]}"
                line = f"p = {p}, {precision}, {kind:<19} {sides} {ratio:>6.2f}x {more:>6.2f}x  {change}  {said}"
                print(line.rstrip(), flush=True)


def emptied(model: nn.Module, example: Tensor, p: float) -> Masks:
    """Return masks that have emptied the channels which a plan would let go; norms and biases are not masked."""
    found = plan(model, example, p)
    ones = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    masks = Masks(model, {name: found.blank(name, one) for name, one in ones.items()})
    masks.apply()
    return masks


def compaction(quick: bool, bars: Bars) -> None:
    batch, example = 8 if quick else 32, torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    print(f"Compaction of a ResNet-18, training steps, batch {batch}; before: as its masks have left it")
    print(REALISED)
    for p in (0.5, 0.9):
        masked = network("resnet18")
        masks = emptied(masked, example, p)
        small, _ = compact(masked, masks, example)
        seconds, _ = once(partial(compact, masked, masks, example))
        times = in_turns({"masked": stepping(masked, batch), "small": stepping(small, batch)}, 3 if quick else 5)
        promised = flops(masked) / flops(small)
        reached = times["masked"].over(times["small"]) / promised
        said = bars.least(reached, 0.8, "80 %") if p == 0.5 else ""
        what, paper = f"{share(p)} of channels emptied, fp32", published("resnet18", p, promised)
        print(realised(what, times["masked"], times["small"], promised, paper, said))
        print(f"  cut out in {seconds:.1f} s", flush=True)
    dense, masked = network("resnet18"), network("resnet18")
    RigL(sparsity=0.9).init(masked, generator=torch.Generator().manual_seed(0))
    times = in_turns({"dense": stepping(dense, batch), "masked": stepping(masked, batch)}, 3 if quick else 5)
    what = "90 % of weights masked, none cut, fp32"
    print(f"{what:<38} {times['dense']!s:>15} {times['masked']!s:>15} {times['dense'].over(times['masked']):>6.2f}x")


def their_plan(model: nn.Module, example: Tensor, p: float) -> tuple[Task, Task]:
    """Return what Torch-Pruning does for a plan: its graph, and its choice. The network is not cut."""
    import torch_pruning

    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    options = {option: {} for option in ("num_heads", "in_channel_groups", "out_channel_groups")}
    made: list[Any] = []

    def graph() -> None:
        pruner = torch_pruning.pruner.BasePruner(
            model, example, importance=importance, pruning_ratio=p, ignored_layers=head, **options
        )
        made.append(pruner)

    return graph, lambda: list(made[-1].step(interactive=True))


def plans(quick: bool, bars: Bars) -> None:
    print("Plans at p = 0.5, seconds")
    print(f"{'':<38} {'CPU':>8} {'wall':>8}  bar")

    def line(what: str, times: Times, bar: str = "") -> None:
        print(f"{what:<38} {times.seconds:>8.2f} {statistics.median(times.wall):>8.2f}  {bar}".rstrip(), flush=True)

    have_theirs = find_spec("torch_pruning") is not None
    cases = [("resnet50", 32, 1.0), ("resnet50", 224, 1.0)]
    if find_spec("torchvision") is None:
        print("(DenseNet-121 left out: torchvision is not installed)")
    else:
        cases += [("torchvision:densenet121", 32, 5.0), ("torchvision:densenet121", 224, 5.0)]
    for name, size, bar in cases[::2] if quick else cases:
        model, example = network(name, size), torch.zeros(1, 3, size, size)
        times = in_turns({"plan": partial(plan, model, example, 0.5)}, 1 if quick else 5)["plan"]
        what = f"{name.rpartition(':')[2]}, {size} x {size}"
        line(what, times, bars.most(times.seconds, bar, f"{bar:.0f} s"))
        if have_theirs and not (quick and "densenet" in name):
            graph, choice = their_plan(model, example, 0.5)
            for part, task in (("graph", graph), ("choice", choice)):
                cpu, wall = once(task)
                line(f"  Torch-Pruning, its {part}, once", Times([cpu], [wall]))


def two_sorts(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """Make the same move by two stable sorts of the whole layer, as sparse-training code commonly does."""
    living = mask.reshape(-1)
    order = weight.detach().reshape(-1).abs().masked_fill(~living, -1.0).argsort(descending=True, stable=True)
    new = torch.zeros_like(living)
    new[order[: int(living.sum()) - count]] = True
    order = gradient.reshape(-1).abs().masked_fill(new, -1.0).argsort(descending=True, stable=True)
    new[order[:count]] = True
    return new.reshape(mask.shape)


def rigl(quick: bool, bars: Bars) -> None:
    model = network("resnet20" if quick else "resnet50")
    masks = RigL(sparsity=0.9).init(model, generator=torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(0)
    for name in masks.names:
        weight = masks.parameter(name)
        weight.grad = torch.randn(weight.shape, generator=source)
    layers = [
        (masks.parameter(name).detach().clone(), masks.parameter(name).grad, masks[name], int(0.3 * masks.kept(name)))
        for name in masks.names
        if masks.kept(name) < masks[name].numel()
    ]
    for layer in layers:
        assert torch.equal(drop_and_grow(*layer), two_sorts(*layer)), "both must choose the same masks"
    pruner = RigL(sparsity=0.9, every=EVERY)
    tasks: dict[str, Task] = {
        "sorts": lambda: [two_sorts(*layer) for layer in layers],
        "choice": lambda: [drop_and_grow(*layer) for layer in layers],
        "move": lambda: pruner.update(masks, step=EVERY, total_steps=100 * EVERY),
    }
    times = in_turns(tasks, 3 if quick else 5)
    print(f"RigL's move of a {'ResNet-20' if quick else 'ResNet-50'}, {masks.total():,} weights, 90 % masked")
    print(f"{'':<46} {'ms':>15}  bar")
    print(f"{'two sorts of each layer, the choice alone':<46} {times['sorts']!s:>15}")
    for key, what in (("choice", "the same choice"), ("move", "the whole move, weights and masks written")):
        ratio = times["sorts"].over(times[key])
        print(f"{what:<46} {times[key]!s:>15}  {ratio:.1f}x less, {bars.least(ratio, 5, '5x')}", flush=True)
    beside_a_step(32 if quick else 128, 3 if quick else 5, bars)


def beside_a_step(batch: int, rounds: int, bars: Bars) -> None:
    """Time what masks add to each step of a ResNet-20, and its move, spread over the steps between two moves."""
    model = network("resnet20")
    masks = RigL(sparsity=0.9).init(model, generator=torch.Generator().manual_seed(0))
    step = stepping(model, batch)
    step()
    dense = [parameter.grad.clone() for parameter in model.parameters()]
    masked = [gradient.clone() for gradient in dense]
    plain, hooked = (torch.optim.SGD(model.parameters(), lr=0.05) for _ in range(2))
    pruner = RigL(sparsity=0.9, every=EVERY)

    def give(gradients: list[Tensor] | None) -> None:
        for parameter, gradient in zip(model.parameters(), gradients or [None] * len(dense)):
            parameter.grad = gradient

    def enforce() -> None:
        give(masked)
        masks.apply_to_gradients()
        give(None)
        hooked.step()  # without gradients nothing but the hooks does any work

    def without() -> None:
        give(masked)
        give(None)
        plain.step()

    def move() -> None:
        give(dense)
        pruner.update(masks, step=EVERY, total_steps=100 * EVERY)

    masks.attach(hooked)
    bare = in_turns({"enforce": enforce, "without": without}, rounds, loops=20)
    times = in_turns({"step": step, "move": move}, rounds)
    seconds = times["step"].seconds
    enforcing = bare["enforce"].seconds - bare["without"].seconds
    moving = times["move"].seconds
    print(f"Masks beside a training step of a ResNet-20, batch {batch}: {1e3 * seconds:.0f} ms")
    for what, cost, bar in (
        ("masks on gradients and weights, a step", enforcing, 0.01),
        (f"RigL's move, every {EVERY} steps, a step", moving / EVERY, 0.005),
    ):
        print(f"{what:<46} {1e3 * cost:>15.3f}  {cost / seconds:.2%}, {bars.most(cost / seconds, bar, f'{bar:.1%}')}")


SECTIONS = {"steps": steps, "rounding": rounding, "compaction": compaction, "plans": plans, "rigl": rigl}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="those to run (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="small cases, for a check that it runs; bars are not judged"
    )
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name!r}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    bars = Bars(judging=not options.quick)
    for name in options.sections or SECTIONS:
        SECTIONS[name](options.quick, bars)
        print()
    judged = f"{bars.missed} bars missed" if bars.judging else "no bar judged (--quick)"
    print(f"{judged}; {time.process_time():.0f} s of CPU time.")


if __name__ == "__main__":
    main()
