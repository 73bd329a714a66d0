"""What dynamic sparse training costs beside a ResNet-20 training step, and RigL's move against two full sorts.

    python benchmarks/bench_pruning.py [--quick]

Everything runs on one thread, in turns, in one process; the figures are medians of process CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sartor.prune import Masks, RigL
from sartor.prune.rewiring import drop_and_grow
from sartor.registry import MODELS

EVERY = 100


def two_sorts(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """Make the same move by two stable sorts of the whole layer, as sparse-training code commonly does."""
    living = mask.reshape(-1)
    order = weight.detach().reshape(-1).abs().masked_fill(~living, -1.0).argsort(descending=True, stable=True)
    new = torch.zeros_like(living)
    new[order[: int(living.sum()) - count]] = True
    order = gradient.reshape(-1).abs().masked_fill(new, -1.0).argsort(descending=True, stable=True)
    new[order[:count]] = True
    return new.reshape(mask.shape)


def interleaved(tasks: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Return each task's median CPU seconds; a task is run `loops` times a round, in turn with the others."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task, _ in tasks.values():
        task()
    for _ in range(rounds):
        for name, (task, loops) in tasks.items():
            start = time.process_time()
            for _ in range(loops):
                task()
            seconds[name].append((time.process_time() - start) / loops)
    return {name: statistics.median(values) for name, values in seconds.items()}


def training(batch: int) -> tuple[Callable[[], None], nn.Module, Masks, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = MODELS.build("resnet20", classes=10, input_shape=(3, 32, 32)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    masks = RigL(sparsity=0.9).init(model, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    targets = torch.randint(10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step, model, masks, optimizer


def overhead(batch: int, rounds: int) -> list[tuple[str, float, str, str]]:
    step, model, masks, optimizer = training(batch)
    masks.attach(optimizer)
    step()
    dense = [p.grad for p in model.parameters()]
    masked = [gradient.clone() for gradient in dense]
    plain = torch.optim.SGD(model.parameters(), lr=0.05)
    hooked = torch.optim.SGD(model.parameters(), lr=0.05)
    pruner = RigL(sparsity=0.9, every=EVERY)

    def give(gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(model.parameters(), gradients):
            parameter.grad = gradient

    def enforce() -> None:
        give(masked)
        masks.apply_to_gradients()
        give([None] * len(masked))
        hooked.step()  # without gradients nothing but the hooks does any work

    def without() -> None:
        give(masked)
        give([None] * len(masked))
        plain.step()

    def move() -> None:
        give(dense)
        pruner.update(masks, step=EVERY, total_steps=100 * EVERY)

    masks.attach(hooked)
    bare = interleaved({"enforce": (enforce, 20), "without": (without, 20)}, rounds)
    masks.attach(optimizer)
    dense = [gradient.clone() for gradient in dense]
    medians = interleaved({"step": (step, 1), "move": (move, 2)}, rounds)
    seconds, moving, enforcing = medians["step"], medians["move"], bare["enforce"] - bare["without"]
    return [
        (f"training step, ResNet-20, batch {batch}", seconds * 1e3, "", ""),
        ("masks on gradients and weights, a step", enforcing * 1e3, f"{enforcing / seconds:.3%}", "< 1 %"),
        (f"RigL move, every {EVERY} steps", moving * 1e3, f"{moving / (EVERY * seconds):.3%}", "< 0.5 %"),
    ]


def choices(rounds: int, shapes: list[tuple[int, ...]]) -> list[tuple[str, float, str, str]]:
    source = torch.Generator().manual_seed(0)
    layers = []
    for shape in shapes:
        weight, gradient = torch.randn(shape, generator=source), torch.randn(shape, generator=source)
        mask = torch.rand(shape, generator=source) < 0.1
        layers.append((weight * mask, gradient, mask, int(0.3 * mask.sum())))
    for layer in layers:
        assert torch.equal(drop_and_grow(*layer), two_sorts(*layer)), "both must choose the same masks"
    medians = interleaved(
        {
            "selection": (lambda: [drop_and_grow(*layer) for layer in layers], 3),
            "sorts": (lambda: [two_sorts(*layer) for layer in layers], 3),
        },
        rounds,
    )
    weights = sum(mask.numel() for _, _, mask, _ in layers)
    ratio = f"{medians['sorts'] / medians['selection']:.1f} x"
    return [
        (f"choice by two sorts, {weights:,} weights", medians["sorts"] * 1e3, "", ""),
        (f"choice by selection, {weights:,} weights", medians["selection"] * 1e3, ratio, "> 4 x"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller batch, fewer rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rows = overhead(32 if quick else 128, 5 if quick else 9)
    model = MODELS.build("resnet20", classes=10, input_shape=(3, 32, 32))
    small = [tuple(p.shape) for p in model.parameters() if p.dim() > 1]
    rows += choices(5 if quick else 15, small)
    rows += choices(3 if quick else 7, [(256, 256, 3, 3), (512, 256, 3, 3), (512, 512, 3, 3)])
    print(f"{'':46}{'ms':>10}  {'measured':>10}  {'bar':>8}")
    for name, milliseconds, measured, bar in rows:
        print(f"{name:46}{milliseconds:>10.3f}  {measured:>10}  {bar:>8}")


if __name__ == "__main__":
    main()
