"""GradMatch against the naive refit: the same picks from gradients that are built, and a solve from scratch each step.

    python benchmarks/bench_gradmatch.py [--quick]

Both run on one thread, in turns, in one process; the figures are medians of process CPU time. The naive side is
favoured: it works in float32 and the time to build its gradients is not counted (it is for the other side).
A second table times the variants (`per`) on one pool of ten classes, a tenth kept, beside a random draw: CPU seconds of
a selection, how far the direction of the weighted subset's gradient is from that of the pool, and the FLOPs that the
ledger is told.
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
from sartor.select.head_gradients import HeadGradients
from sartor.select.pursuit import pursue

VARIANTS = (
    "gradmatch",
    "gradmatch(ridge=0)",
    "gradmatch(per='class-gradient')",
    "gradmatch(per='class-gradient', ridge=0)",
    "gradmatch(per=batch)",
    "gradmatch(per=batch, ridge=0)",
    "gradmatch(per=batch, batch_size=32)",
    "gradmatch(per=all)",
)


def one_class(n: int, c: int, d: int) -> Scan:
    """Make a class of several modes, half learnt: most errors are small, some are large."""
    generator = torch.Generator().manual_seed(0)
    modes = torch.randn(8, d, generator=generator)
    which = torch.randint(8, (n,), generator=generator)
    features = (modes[which] + torch.randn(n, d, generator=generator)).relu()
    head = torch.randn(d, c, generator=generator) * 2 / d**0.5
    logits = features @ head
    logits[:, 0] += 2
    return Scan.from_arrays(logits=logits, features=features, targets=torch.zeros(n, dtype=torch.int64))


def many_classes(n: int, c: int, d: int) -> Scan:
    """Make classes of several modes each, of which the network has learnt most."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % c
    modes = torch.randn(c, 8, d, generator=generator)
    which = torch.randint(8, (n,), generator=generator)
    features = (modes[targets, which] + torch.randn(n, d, generator=generator)).relu()
    logits = features @ torch.randn(d, c, generator=generator) / d**0.5
    logits[torch.arange(n), targets] += 2
    return Scan.from_arrays(logits=logits, features=features, targets=targets)


def built_gradients(scan: Scan) -> Tensor:
    gradients = HeadGradients.of(scan, torch.arange(len(scan)))
    return torch.einsum("nc,nd->ncd", gradients.errors.float(), gradients.inputs.float()).flatten(1)


def naive(gradients: Tensor, k: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Orthogonal matching pursuit with a Gram matrix and a solve from scratch at every step."""
    target = gradients.sum(0)
    penalty = ridge * float(gradients.square().sum(1).mean())
    chosen: list[int] = []
    weights = torch.zeros(0)
    residual = target
    for _ in range(k):
        missing = gradients @ residual
        missing[chosen] = -torch.inf
        chosen.append(int(missing.argmax()))
        while True:
            held = gradients[chosen]
            gram = (held @ held.T).double() + penalty * torch.eye(len(chosen), dtype=torch.float64)
            weights = torch.linalg.lstsq(gram, (held @ target).double()[:, None]).solution[:, 0]
            if float(weights.min()) > 0:
                break
            del chosen[int(weights.argmin())]
        residual = target - held.T @ weights.float()
    return torch.tensor(chosen), weights


def timed(call: Callable[[], tuple[Tensor, Tensor]]) -> tuple[float, tuple[Tensor, Tensor]]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def mismatch(gradients: HeadGradients, chosen: Tensor, weights: Tensor) -> float:
    """Return how far the weighted sum is from the whole sum, relative to it."""
    full = torch.zeros(len(gradients), dtype=torch.float64).index_put_((chosen,), weights)
    total = gradients.total()
    return float((gradients.total(full) - total).norm() / total.norm())


def compare(n: int, c: int, d: int, k: int, repeats: int, ridge: float = 0.5) -> str:
    scan = one_class(n, c, d)
    everything = torch.arange(n)
    built = built_gradients(scan)
    ours, theirs = [], []
    for _ in range(repeats):
        seconds, fast = timed(lambda: pursue(HeadGradients.of(scan, everything), k, ridge=ridge))
        ours.append(seconds)
        seconds, slow = timed(lambda: naive(built, k, ridge))
        theirs.append(seconds)
    gradients = HeadGradients.of(scan, everything)
    alike = len(set(fast[0].tolist()) & set(slow[0].tolist()))
    fast_s, slow_s = statistics.median(ours), statistics.median(theirs)
    errors = f"{mismatch(gradients, *slow):>9.5f} {mismatch(gradients, *fast):>9.5f}"
    memory = f"{built.nbytes / 2**20:>9.0f} {4 * n * (c + d + 1 + k) / 2**20:>9.0f}"
    speed = f"{slow_s:>9.3f} {fast_s:>9.3f} {slow_s / fast_s:>7.1f}x"
    return f"{n:>6} {c:>4} {d:>5} {k:>5} {speed} {alike:>5}/{k:<5}{errors} {memory}"


def variant(spec: str, scan: Scan, k: int, repeats: int) -> str:
    """Time one selector; return a line of the table."""
    times = []
    for seed in range(repeats):
        source = torch.Generator().manual_seed(seed)
        start = time.process_time()
        subset = SELECTORS.build(spec).select(scan, k, generator=source)
        times.append(time.process_time() - start)
    gradients = HeadGradients.of(scan, torch.arange(len(scan)))
    weights = torch.zeros(len(scan), dtype=torch.float64)
    weights[scan.at(subset.rows)] = subset.weights.double()
    total, matched = gradients.total(), gradients.total(weights)
    away = float((matched / matched.norm() - total / total.norm()).norm())
    return f"{spec:<42} {len(scan):>6} {k:>5} {statistics.median(times):>9.3f} {away:>9.4f} {subset.flops:>9.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small cases only, for a check that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    cases = [(500, 10, 64, 50)] if quick else [(5000, 2, 512, 250), (5000, 10, 512, 250), (2000, 10, 64, 200)]
    print("one class of n samples, c classes, d features; CPU seconds; mismatch = |sum w g - G| / |G|; MB held")
    print(
        f"{'n':>6} {'c':>4} {'d':>5} {'k':>5} {'naive s':>9} {'sartor s':>9} {'ratio':>8} {'same picks':>11}"
        f"{'naive':>9} {'sartor':>9} {'naive MB':>9} {'sartor MB':>9}"
    )
    for case in cases:
        print(compare(*case, repeats=3), flush=True)
    n, d = (2000, 32) if quick else (20_000, 128)
    scan = many_classes(n, 10, d)
    print(f"\n10 classes, {d} features\n{'selector':<42} {'n':>6} {'k':>5} {'seconds':>9} {'away':>9} {'FLOPs':>9}")
    for spec in ("random", *VARIANTS):
        print(variant(spec, scan, n // 10, repeats=1 if spec == "gradmatch(per=all)" else 3), flush=True)


if __name__ == "__main__":
    main()
