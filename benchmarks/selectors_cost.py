"""What a pruned selector saves: its training step and its scoring beside the dense network's, in seconds and FLOPs.

    python benchmarks/selectors_cost.py [--quick] [lenet resnet8 resnet20 resnet56]

For each network, p = 0.5 and 0.8: the selector is what `plan(model, example, p).shrink(model)` leaves. A step is
forward, backward and SGD with momentum on a mini-batch; scoring is a scan of some samples for their logits, and least
confidence. Beside each speed-up stand that of the FLOPs, which share of it is realised, and the speed-up that Table 29
of Yehya et al. 2026 (PruneFuse) has for a selector's whole training: 1.76x and 1.90x, a ResNet-56 on CIFAR-10.

One thread, one process, fp32. Dense and small networks take turns, there and back; times are medians of process CPU
time, wall times follow in brackets, and a ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from pruning import MINUTES, Task, in_turns, share, stepping
from torch import Tensor, nn

from sartor.costs import count_flops
from sartor.data.pool import Pool
from sartor.models.build import build_model
from sartor.prune.channels import plan
from sartor.registry import SELECTORS
from sartor.report import wording
from sartor.scanning import scan

NETWORKS = {
    "lenet": ("lenet(width=2)", (1, 28, 28)),
    "resnet8": ("resnet8", (3, 32, 32)),
    "resnet20": ("resnet20", (3, 32, 32)),
    "resnet56": ("resnet56", (3, 32, 32)),
}
"""The networks by name: how they are made, and for inputs of what shape."""
SPARSITIES = (0.5, 0.8)
HEADS = f"{'':<34} {'ms dense':>15} {'ms small':>15} {'faster':>7} {'FLOPs':>7} {'realised':>8}  Table 29"


def pictures(shape: tuple[int, ...], n: int) -> Tensor:
    """Return made-up inputs."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def scoring(model: nn.Module, pool: Pool, batch: int) -> Task:
    """Return a look at all samples of a pool, and their scores."""
    selector = SELECTORS.build("least-confidence")
    return lambda: selector.scores(scan(model, pool, needs=selector.needs, batch_size=batch, precision="fp32"))


def published(name: str, p: float) -> str:
    """Return the paper's speed-up of a selector's training."""
    dense, small = MINUTES.get((name, p), (0.0, 1.0))
    return f"{dense / small:.2f}x" if dense else ""


def compare(name: str, quick: bool) -> None:
    """Print a network's lines: all of its tasks in turns."""
    spec, shape = NETWORKS[name]
    batch, scored, rounds = (16, 32, 2) if quick else (128, 1024, 7)
    dense, example = build_model(spec, classes=10, input_shape=shape, seed=0), torch.zeros(1, *shape)
    models = {0.0: dense} | {p: plan(dense, example, p).shrink(dense) for p in SPARSITIES}
    flops = {p: count_flops(model, example).forward for p, model in models.items()}
    counts = ", ".join(f"{wording.flops(count)} at p = {p:g}" for p, count in flops.items())
    print(f"{name}, a sample forward: {counts} (dense is p = 0)")
    pool = Pool.from_arrays(pictures(shape, scored))
    tasks: dict[str, Task] = {}
    for p, model in models.items():
        tasks[f"step {p}"] = stepping(model, batch, shape=shape)
        tasks[f"scoring {p}"] = scoring(model, pool, batch)
    times = in_turns(tasks, rounds)
    for what, size in (("step", f"batch {batch}"), ("scoring", f"{scored} samples")):
        before = times[f"{what} 0.0"]
        for p in SPARSITIES:
            after, promised = times[f"{what} {p}"], flops[0.0] / flops[p]
            faster = before.over(after)
            figures = f"{faster:>6.2f}x {promised:>6.2f}x {share(faster / promised):>8}"
            paper = published(name, p) if what == "step" else ""
            title = f"  p = {p}, {what}, {size}"
            print(f"{title:<34} {before!s:>15} {after!s:>15} {figures}  {paper}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="those to time (default: all)")
    parser.add_argument("--quick", action="store_true", help="small cases, for a check that it runs")
    options = parser.parse_args()
    for name in options.networks:
        if name not in NETWORKS:
            parser.error(f"there is no network {name!r}; there are {', '.join(NETWORKS)}")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    print(HEADS)
    for name in options.networks or NETWORKS:
        compare(name, options.quick)
    print(f"\n{time.process_time():.0f} s of CPU time.")


if __name__ == "__main__":
    main()
