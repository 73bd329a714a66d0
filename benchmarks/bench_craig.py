"""CRAIG against the plain way: distances of gradients that are built, and a greedy choice that looks at every gain.

    python benchmarks/bench_craig.py [--quick]

Both sides run on one thread, in turns, in one process; the figures are medians of process CPU time.

1. Distances: by products of errors and of inputs in float64, beside cdist of built gradients in float32, whose building
   is not counted.
2. The choice, on the same similarities: lazily and stochastically beside all gains at every step, as one would write it
   (plain), or without a new array at each step (in place). Of these only the first steps are run where all would take
   minutes (`run`) and their time is scaled up; the value of the lazy choice is compared with theirs as far as they go.
3. Selectors: CPU seconds, the cost of the subset as a share of a random one's (the sum of the distances of all
   gradients to the nearest chosen one of their class), memory above that before, the FLOPs that the ledger is told.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from bench_gradmatch import built_gradients, many_classes, one_class
from torch import Tensor

from sartor.registry import SELECTORS
from sartor.seen import Scan
from sartor.select.facility import Coverage
from sartor.select.greedy import lazy_greedy, stochastic_greedy
from sartor.select.similarity import Held, Vectors, distances, similarities

SPECS = (
    "random(balanced=True)",
    "craig",
    "craig(greedy=stochastic)",
    "craig(per=batch)",
    "facility-location(balanced=True)",
    "graph-cut(balanced=True)",
    "glister",
    "glister(greedy=stochastic)",
)


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare_distances(n: int, c: int, d: int, repeats: int) -> str:
    """Time the distances of one class; return a line of the table."""
    scan = one_class(n, c, d)
    built, everything = built_gradients(scan), torch.arange(n)
    ours, theirs = [], []
    for _ in range(repeats):
        seconds, held = timed(
            lambda: similarities(Vectors.of_gradients(scan, everything), "euclidean", memory=8).rows(everything[:1])
        )
        ours.append(seconds)
        seconds, measured = timed(lambda: torch.cdist(built, built))
        theirs.append(seconds)
    largest = float(measured.max())
    apart = float(((1 - held[0]) * largest - measured[0]).abs().max()) / largest
    fast, slow = statistics.median(ours), statistics.median(theirs)
    memory = f"{built.nbytes / 2**20:>9.0f} {4 * n * (c + d + 1) / 2**20:>9.0f}"
    return f"{n:>6} {c:>4} {d:>5} {slow:>9.3f} {fast:>9.3f} {slow / fast:>7.1f}x {apart:>9.1g} {memory}"


def plain(matrix: Tensor, k: int) -> Tensor:
    """Choose greedily, with all gains computed at every step."""
    covered, chosen = torch.zeros(len(matrix)), []
    for _ in range(k):
        gains = (matrix - covered).clamp(min=0).sum(1)
        gains[chosen] = -torch.inf
        chosen.append(int(gains.argmax()))
        covered = covered.maximum(matrix[chosen[-1]])
    return torch.tensor(chosen)


def in_place(matrix: Tensor, k: int) -> Tensor:
    """Do what `plain` does in an array that is there already."""
    covered, chosen, work = torch.zeros(len(matrix)), [], torch.empty_like(matrix)
    for _ in range(k):
        gains = torch.sub(matrix, covered, out=work).clamp_(min=0).sum(1)
        gains[chosen] = -torch.inf
        chosen.append(int(gains.argmax()))
        covered = covered.maximum(matrix[chosen[-1]])
    return torch.tensor(chosen)


def value(matrix: Tensor, chosen: Tensor) -> float:
    return float(matrix[chosen].max(0).values.double().sum())


def compare_choices(n: int, c: int, d: int, k: int, most: int, repeats: int) -> str:
    """Time the choice of k of one class; return a line of the table."""
    held = similarities(Vectors.of_gradients(one_class(n, c, d), torch.arange(n)), "euclidean", memory=8)
    assert isinstance(held, Held)
    matrix, steps = held.matrix, min(k, most)
    calls: list[Callable[[], Tensor]] = [
        lambda: plain(matrix, steps),
        lambda: in_place(matrix, steps),
        lambda: lazy_greedy(Coverage(held), k),
        lambda: stochastic_greedy(Coverage(held), k, eps=0.05, generator=torch.Generator().manual_seed(0)),
    ]
    times: list[list[float]] = [[] for _ in calls]
    found: list[Tensor] = [torch.zeros(0) for _ in calls]
    for _ in range(repeats):
        for place, call in enumerate(calls):
            seconds, found[place] = timed(call)
            times[place].append(seconds)
    whole, reused, lazy, stochastic = (statistics.median(seconds) for seconds in times)
    whole, reused = whole * k / steps, reused * k / steps
    alike = value(matrix, found[2][:steps]) / value(matrix, found[0]) - 1
    kept = value(matrix, found[3]) / value(matrix, found[2])
    exact = f"{whole:>9.2f} {reused:>9.2f} {lazy:>9.3f} {whole / lazy:>7.0f}x"
    drawn = f"{stochastic:>9.3f} {whole / stochastic:>7.0f}x"
    return f"{n:>6} {k:>5} {steps:>5} {exact} {drawn} {alike:>11.1e} {kept:>8.4f}"


def split(n: int, c: int, d: int) -> Scan:
    """Make a pool of n samples, with a ninth as many validation samples beside."""
    whole = many_classes(n + n // 9, c, d)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(1))
    parts = [
        {"logits": whole.logits[at], "features": whole.features[at], "targets": whole.targets[at]}
        for at in order.split(n)
    ]
    return Scan.from_arrays(**parts[0], validation=Scan.from_arrays(**parts[1]), lr=0.1)


def cost(scan: Scan, rows: Tensor) -> float:
    """Return the sum of the distances of all gradients to the nearest chosen one of their class."""
    total = 0.0
    for label in scan.targets.unique():
        members = (scan.targets == label).nonzero().squeeze(1)
        chosen = torch.isin(members, scan.at(rows)).nonzero().squeeze(1)
        if len(chosen):
            vectors = Vectors.of_gradients(scan, members)
            total += float(sum(distances(vectors, part, chosen).min(1).values.sum() for part in _parts(len(members))))
    return total


def _parts(n: int) -> list[slice]:
    return [slice(start, start + 1024) for start in range(0, n, 1024)]


def variant(spec: str, scan: Scan, k: int, repeats: int, random: float) -> tuple[str, float]:
    """Time one selector; return a line of the table and its cost."""
    before, times = megabytes(), []
    for seed in range(repeats):
        source = torch.Generator().manual_seed(seed)
        start = time.process_time()
        subset = SELECTORS.build(spec).select(scan, k, generator=source)
        times.append(time.process_time() - start)
    found = cost(scan, subset.rows)
    more = megabytes() - before
    figures = f"{statistics.median(times):>9.3f} {found / (random or found):>9.4f} {more:>9.0f} {subset.flops:>9.2g}"
    return f"{spec:<36} {len(scan):>6} {k:>5} {figures}", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only, for a check that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print("distances of one class of n samples, c classes, d features; CPU seconds; largest difference; MB held")
    heads = f"{'n':>6} {'c':>4} {'d':>5} {'cdist s':>9} {'sartor s':>9} {'ratio':>8}"
    print(f"{heads} {'apart':>9} {'built MB':>9} {'held MB':>9}")
    for case in [(300, 10, 32)] if quick else [(1000, 10, 64), (1000, 10, 512), (2000, 10, 512), (500, 100, 512)]:
        print(compare_distances(*case, repeats=3), flush=True)
    print("\nthe choice of k of n samples; CPU seconds; values: lazy beside plain - 1, stochastic beside lazy")
    heads = f"{'n':>6} {'k':>5} {'run':>5} {'plain s':>9} {'in place':>9} {'lazy s':>9} {'ratio':>8}"
    print(f"{heads} {'stoch. s':>9} {'ratio':>8} {'difference':>11} {'kept':>8}")
    for n, k, most in [(300, 30, 30)] if quick else [(2000, 200, 200), (5000, 500, 50)]:
        print(compare_choices(n, 10, 64, k, most, repeats=3), flush=True)
    n, d = (1000, 16) if quick else (20_000, 128)
    scan = split(n, 10, d)
    print(f"\n10 classes, {d} features, {n // 9} validation samples")
    print(f"{'selector':<36} {'n':>6} {'k':>5} {'seconds':>9} {'cost':>9} {'MB more':>9} {'FLOPs':>9}")
    random = 0.0
    for spec in SPECS:
        line, found = variant(spec, scan, n // 10, 1 if "stochastic" in spec else 3, random)
        random = random or found
        print(line, flush=True)


if __name__ == "__main__":
    main()
