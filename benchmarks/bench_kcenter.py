"""k-center against the plain way: a product of the whole table with one chosen sample at each step.

    python benchmarks/bench_kcenter.py [--quick]

Both sides run on one thread, in turns, in one process; the figures are medians of process CPU time.

1. The choice: the plain side has all features and their squared norms in float32 and keeps a running minimum, as one
   would write it; ours reads them by the block and compares exact distances. Picks are compared one by one, in order.
2. Selectors that work on features: CPU seconds, the largest distance of a sample to the nearest chosen one, and how far
   the mean of those chosen is from the mean of all, each as a share of a random choice's; the FLOPs of the ledger.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.kcenter import farthest_first
from sartor.select.points import Nearest, Points

SPECS = (
    "random",
    "k-center",
    "k-center(start=random)",
    "k-center(balanced=True)",
    "herding",
    "herding(balanced=False)",
    "moderate",
)


def made(n: int, d: int) -> Tensor:
    """Make features as they come out of a rectifier."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)).relu()


def one_product_a_step(features: Tensor, k: int, *, first: int) -> Tensor:
    """Choose farthest first, with one matrix-vector product and a running minimum at each step."""
    squares, chosen = (features * features).sum(1), [first]
    nearest = torch.full((len(features),), torch.inf)
    for _ in range(k - 1):
        last = chosen[-1]
        nearest = nearest.minimum((squares + squares[last] - 2 * (features @ features[last])).clamp(min=0))
        nearest[last] = -torch.inf
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen[:k])


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def compare(n: int, d: int, k: int, repeats: int) -> str:
    """Time the choice of k of n; return a line of the table."""
    features = made(n, d)
    calls: tuple[Callable[[], Tensor], ...] = (
        lambda: one_product_a_step(features, k, first=0),
        lambda: farthest_first(Points.held(features), k, first=0),
    )
    times: list[list[float]] = [[], []]
    picks = [torch.zeros(0), torch.zeros(0)]
    for _ in range(repeats):
        for place, call in enumerate(calls):
            seconds, picks[place] = timed(call)
            times[place].append(seconds)
    slow, fast = (statistics.median(seconds) for seconds in times)
    same = f"{int((picks[0] == picks[1]).sum())} of {k}"
    return f"{n:>6} {d:>5} {k:>5} {slow:>9.3f} {fast:>9.3f} {slow / fast:>7.1f}x {same:>12}"


def radius_and_gap(features: Tensor, chosen: Tensor) -> tuple[float, float]:
    """Return the largest distance to the nearest chosen one, and how far their mean is from the mean of all."""
    nearest = Nearest(Points.held(features))
    for part in features[chosen].double().split(256):
        nearest.add(part)
    return float(nearest.squared.max()) ** 0.5, float((features[chosen].mean(0) - features.mean(0)).norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only, for a check that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print("the choice of k of n samples with d features; CPU seconds; picks that are the same, in order")
    print(f"{'n':>6} {'d':>5} {'k':>5} {'plain s':>9} {'sartor s':>9} {'ratio':>8} {'same picks':>12}")
    for case in [(1000, 16, 50)] if quick else [(5000, 64, 500), (5000, 512, 500), (20_000, 512, 500)]:
        print(compare(*case, repeats=3), flush=True)
    n, d = (1000, 16) if quick else (10_000, 128)
    features = made(n, d)
    scan = Scan.from_arrays(features=features, targets=torch.arange(n) % 10)
    print(f"\nselectors: {n // 10} of {n} samples, {d} features, 10 classes")
    print(f"{'selector':<26} {'seconds':>9} {'radius':>9} {'gap':>9} {'FLOPs':>9}")
    beside: tuple[float, float] | None = None
    for spec in SPECS:
        start = time.process_time()
        subset = SELECTORS.build(spec).select(scan, n // 10, generator=torch.Generator().manual_seed(0))
        seconds = time.process_time() - start
        found = radius_and_gap(features, subset.rows)
        beside = beside or found
        shares = " ".join(f"{ours / random:>9.4f}" for ours, random in zip(found, beside))
        print(f"{spec:<26} {seconds:>9.3f} {shares} {subset.flops:>9.2g}", flush=True)


if __name__ == "__main__":
    main()
