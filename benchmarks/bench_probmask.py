"""What ProbMask costs beside a training step, and its projection against halving an interval and against a sort.

    python benchmarks/bench_probmask.py [--quick]

Everything runs on one thread, in turns, in one process; the figures are medians of process CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sartor.prune.probmask import ProbMask
from sartor.prune.simplex import project
from sartor.registry import MODELS


def interleaved(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[float, Any]]:
    """Return each task's median CPU seconds and what it returned last; tasks take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    last: dict[str, Any] = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.process_time()
            last[name] = task()
            seconds[name].append(time.process_time() - start)
    return {name: (statistics.median(values), last[name]) for name, values in seconds.items()}


def halved(scores: Tensor, budget: float, times: int = 21) -> Tensor:
    """Halve [0, max s] in float32, as the original does."""
    low, high = 0.0, float(scores.max())
    for _ in range(times):
        middle = (low + high) / 2
        low, high = (low, middle) if float((scores - middle).clamp(0, 1).sum()) < budget else (middle, high)
    return (scores - middle).clamp(0, 1)


def sorted_exactly(scores: Tensor, budget: float) -> Tensor:
    """Sort the knots s and s - 1, and add up the slopes between them."""
    row = scores.double()
    knots, order = torch.cat([row, row - 1]).sort(descending=True)
    slopes = torch.where(order < len(row), 1.0, -1.0).double().cumsum(0)
    sums = torch.cat([torch.zeros(1).double(), (slopes[:-1] * -knots.diff()).cumsum(0)])
    place = int(torch.searchsorted(sums, budget))
    v = float(knots[place - 1] - (budget - sums[place - 1]) / slopes[place - 1])
    return (row - max(v, 0.0)).clamp(0, 1).float()


def rows_of(n: int) -> dict[str, Tensor]:
    """Scores as they are early in a training, in its middle and late."""
    source = torch.Generator().manual_seed(0)
    noise = 0.006 * torch.randn(n, generator=source)
    return {
        "early": 1 - 0.02 * torch.rand(n, generator=source) + noise,
        "middle": torch.rand(n, generator=source) + noise,
        "late": (torch.rand(n, generator=source) < 0.1).float() + noise,
    }


def projections(n: int, rounds: int) -> list[tuple[str, float, str]]:
    lines = []
    for kind, row in rows_of(n).items():
        budget = 0.98 * float(row.clamp(0, 1).double().sum())
        tasks: dict[str, Callable[[], Tensor]] = {
            "21 halvings": lambda row=row, budget=budget: halved(row, budget),
            "sort": lambda row=row, budget=budget: sorted_exactly(row, budget),
            "project": lambda row=row, budget=budget: projected(row, budget),
        }
        measured = interleaved(tasks, rounds)
        right = measured["sort"][1]
        for name, (seconds, found) in measured.items():
            off = float((found - right).abs().max()), abs(float(found.double().sum()) / budget - 1)
            lines.append((f"{n:,} scores, {kind}: {name}", 1e3 * seconds, f"{off[0]:.0e} a score, {off[1]:.0e} in all"))
            if name == "project":
                assert max(off) < 1e-6
    return lines


def projected(scores: Tensor, budget: float) -> Tensor:
    row = scores.clone()
    project(row, budget)
    return row


def steps(name: str, batch: int, rounds: int) -> list[tuple[str, float, str]]:
    torch.manual_seed(0)
    model = MODELS.build(name, classes=10, input_shape=(3, 32, 32)).to(memory_format=torch.channels_last)
    inputs = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    targets = torch.randint(10, (batch,))
    pruner = ProbMask()
    masks = pruner.init(model, generator=torch.Generator().manual_seed(0))

    def plain() -> None:
        nn.functional.cross_entropy(model(inputs), targets).backward()

    def drawn() -> None:
        with pruner.forward(model, masks):
            plain()

    plain()

    def update() -> None:
        masks.scores.grad = torch.randn(masks.total(), generator=torch.Generator().manual_seed(0))
        pruner.update(masks, step=50, total_steps=100)

    for _ in range(3):
        update()
    measured = interleaved({"plain": plain, "drawn": drawn, "update": update}, rounds)
    once, with_draw, updating = (seconds for seconds, _ in measured.values())
    drawing, both = 2 * (with_draw - once), 2 * once
    return [
        (f"two passes, {name}, batch {batch}", 1e3 * both, ""),
        ("drawing masks for both, and their gradients", 1e3 * drawing, f"{drawing / both:.1%}"),
        ("clipping, Adam and projection of the scores", 1e3 * updating, f"{updating / both:.1%}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer scores, a smaller network, fewer rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    lines = projections(300_000 if quick else 11_000_000, 1)
    lines += steps("resnet20", 8 if quick else 128, 1 if quick else 5)
    if not quick:
        lines += steps("resnet18", 32, 3)
    print(f"{'':52}{'ms':>10}  {'':<34}")
    for name, milliseconds, note in lines:
        print(f"{name:52}{milliseconds:>10.1f}  {note:<34}")


if __name__ == "__main__":
    main()
