"""The figures that selectors are held to: each beside the naive form in one run, and beside the pass they come after.

    python benchmarks/selection.py [--quick]

1. Speed: medians of process CPU time on one thread, both sides in turns. The naive sides are those of the programs
   beside this one (bench_gradmatch, bench_craig, bench_kcenter), and vmap(grad) for last-layer gradients.
2. Overhead: what a selector takes outside the forward pass, as a share of that pass, for 50,000 pictures of 32 x 32 and
   a ResNet-20, a tenth chosen; the pass is timed on some of the pictures and scaled up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from bench_craig import in_place, plain, value
from bench_gradmatch import built_gradients, many_classes, naive, one_class
from bench_kcenter import made_up, one_product_a_step
from torch import Tensor

from sartor.data.pool import Pool
from sartor.models.resnet_cifar import resnet20
from sartor.registry import SELECTORS
from sartor.scanning import scan as look
from sartor.seen import Scan
from sartor.select.facility import Coverage
from sartor.select.greedy import lazy_greedy
from sartor.select.head_gradients import HeadGradients
from sartor.select.kcenter import farthest_first
from sartor.select.points import Points
from sartor.select.pursuit import pursue
from sartor.select.similarity import Held, Vectors, similarities

SCORES = ("least-confidence", "margin", "entropy", "el2n", "loss", "grand", "moderate", "k-center", "herding")
HEADS = f"{'what':<58} {'naive s':>9} {'sartor s':>9} {'ratio':>8} {'wanted':>7}  agreement"


def alternating(repeats: int, slow: Callable[[], Any], fast: Callable[[], Any]) -> tuple[float, float, Any, Any]:
    """Run both in turns; return the medians of their CPU seconds and what they last returned."""
    times: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(repeats):
        for place, call in enumerate((slow, fast)):
            start = time.process_time()
            results[place] = call()
            times[place].append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1]), *results


def line(what: str, slow: float, fast: float, wanted: float | None, agreement: str) -> str:
    bar = "" if wanted is None else f"{wanted:.0f}x"
    missed = "  MISSED" if wanted is not None and slow / fast < wanted else ""
    return f"{what:<58} {slow:>9.3f} {fast:>9.3f} {slow / fast:>7.1f}x {bar:>7}  {agreement}{missed}"


def gradmatch(n: int, c: int, d: int, k: int, repeats: int) -> str:
    scan, everything = one_class(n, c, d), torch.arange(n)
    built = built_gradients(scan)
    slow, fast, theirs, ours = alternating(
        repeats, lambda: naive(built, k, 0.5), lambda: pursue(HeadGradients.of(scan, everything), k, ridge=0.5)
    )
    same = len(set(theirs[0].tolist()) & set(ours[0].tolist()))
    return line(f"GradMatch n={n} c={c} d={d} k={k}, refit each step", slow, fast, 8, f"{same} of {k} picks")


def craig(n: int, c: int, d: int, k: int, repeats: int) -> str:
    """Compare the choice with two naive ones: as one would write it, and without a new array at each step."""
    held = similarities(Vectors.of_gradients(one_class(n, c, d), torch.arange(n)), "euclidean", memory=8)
    assert isinstance(held, Held)
    lines = []
    for form, choose, wanted in (("all gains each step", plain, 50), ("the same in place", in_place, None)):
        slow, fast, theirs, ours = alternating(
            repeats, partial(choose, held.matrix, k), lambda: lazy_greedy(Coverage(held), k)
        )
        apart = value(held.matrix, ours) / value(held.matrix, theirs) - 1
        lines.append(line(f"CRAIG n={n} d={d} k={k}, {form}", slow, fast, wanted, f"objective {apart:+.1e}"))
    return "\n".join(lines)


def k_center(n: int, d: int, k: int, repeats: int) -> str:
    features = made_up(n, d)
    slow, fast, theirs, ours = alternating(
        repeats,
        lambda: one_product_a_step(features, k, first=0),
        lambda: farthest_first(Points.held(features), k, first=0),
    )
    same = int((theirs == ours).sum())
    return line(f"k-center n={n} d={d} k={k}, a product each step", slow, fast, 3, f"{same} of {k} picks")


def gradients(n: int, c: int, d: int, repeats: int, wanted: float) -> str:
    """Compare the norms of last-layer gradients."""
    scan = many_classes(n, c, d)
    weight, bias = torch.zeros(c, d), torch.zeros(c)

    def loss(head: tuple[Tensor, Tensor], feature: Tensor, shift: Tensor, target: Tensor) -> Tensor:
        logits = head[0] @ feature + head[1] + shift  # the head's value does not matter, only that of the logits
        return torch.nn.functional.cross_entropy(logits[None], target[None])

    single = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))

    def built() -> Tensor:
        found = []
        for features, logits, targets in zip(*(x.split(500) for x in (scan.features, scan.logits, scan.targets))):
            of_weight, of_bias = single((weight, bias), features, logits, targets)
            found.append((of_weight.flatten(1).square().sum(1) + of_bias.square().sum(1)).sqrt())
        return torch.cat(found)

    def factored() -> Tensor:
        return HeadGradients.of(scan, torch.arange(n)).norms()

    slow, fast, theirs, ours = alternating(repeats, built, factored)
    apart = float(((theirs - ours).abs() / theirs.clamp(min=1e-3)).max())
    what = f"last-layer gradients n={n} c={c} d={d}, vmap(grad)"
    return line(what, slow, fast, wanted, f"apart {apart:.0e}")


def overhead(n: int, timed: int, specs: tuple[str, ...]) -> str:
    """Time the pass of a ResNet-20 and selectors on what it sees; return lines of a table."""
    source = torch.Generator().manual_seed(0)
    pictures = torch.randn(timed, 3, 32, 32, generator=source)
    pool = Pool.from_arrays(pictures, torch.arange(timed) % 10)
    network = resnet20(classes=10, input_shape=(3, 32, 32))
    start = time.process_time()
    seen = look(network, pool, needs={"logits", "features"})
    forward = (time.process_time() - start) / timed * n
    repeated = torch.arange(n) % timed
    noise = torch.randn(n, seen.features.shape[1], generator=source)
    scan = Scan.from_arrays(
        logits=seen.logits[repeated] + noise[:, :10],
        features=(seen.features[repeated] + noise).relu(),
        targets=torch.arange(n) % 10,
    )
    lines = [
        f"forward pass of a ResNet-20 over {n} pictures: {forward:.1f} s",
        f"{'selector':<20} {'seconds':>9}    share",
    ]
    for spec in specs:
        start = time.process_time()
        SELECTORS.build(spec).select(scan, n // 10, generator=source)
        seconds = time.process_time() - start
        lines.append(f"{spec:<20} {seconds:>9.3f} {100 * seconds / forward:>7.2f} %")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only, for a check that it runs")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    r, quick = options.repeats, options.quick
    print(HEADS)
    print(gradmatch(*((400, 10, 64, 40) if quick else (5000, 10, 512, 500)), r), flush=True)
    print(craig(*((400, 10, 64, 40) if quick else (5000, 10, 512, 500)), r), flush=True)
    print(k_center(*((1000, 64, 50) if quick else (20_000, 512, 500)), r), flush=True)
    for c, wanted in ((10, 5.0), (100, 30.0)):
        print(gradients(500 if quick else 5000, c, 512, r, wanted), flush=True)
    print()
    print(overhead(*((1000, 100) if quick else (50_000, 2000)), SCORES))


if __name__ == "__main__":
    main()
