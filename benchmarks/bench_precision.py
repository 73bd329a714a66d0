"""bfloat16 and channels_last against plain float32: speed of scoring and of training, and what is left of the ranking.

python benchmarks/bench_precision.py [--quick] [--data cifar10 --root data --epochs 3 --samples 10000]
CPU seconds of the process, one thread, all forms in turn, medians. Scoring's plain form is no_grad in float32, channels
first. With --data a ResNet-20 is trained in float32 for a few epochs; after each the ten per cent of the samples with
the highest and the lowest EL2N are compared. Bar: scoring with the default settings at least 2x plain, overlap 0.95.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from sartor.costs import count_flops
from sartor.data.loader import Loader
from sartor.data.pool import Pool
from sartor.models.build import build_model
from sartor.precision import arithmetic
from sartor.randomness import generator
from sartor.registry import DATASETS
from sartor.scanning import scan
from sartor.seen import Scan
from sartor.types import Subset

CPU = torch.device("cpu")
FORMS = {"fp32": ("fp32", False), "fp32 channels last": ("fp32", True), "bf16": ("bf16", False),
         "bf16 channels last": ("bf16", True)}  # fmt: skip
NETS = {"cnn": (1, 8, 8), "lenet": (1, 28, 28), "resnet8(width=4)": (3, 32, 32), "resnet8(width=8)": (3, 32, 32),
        "resnet8": (3, 32, 32), "resnet20": (3, 32, 32), "resnet56": (3, 32, 32)}  # fmt: skip


def make_pool(n: int, shape: tuple[int, ...]) -> Pool:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=draws)
    return Pool.from_arrays(images, torch.randint(0, 10, (n,), generator=draws), classes=10)


def layout(model: torch.nn.Module, last: bool) -> torch.nn.Module:
    return model.to(memory_format=torch.channels_last if last else torch.contiguous_format)


def training(name: str, shape: tuple[int, ...], form: tuple[str, bool], steps: int) -> float:
    precision, last = form
    model = layout(build_model(name, classes=10, input_shape=shape, seed=0), last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = Loader(make_pool(128 * steps, shape), batch_size=128, seed=0, channels_last=last)
    start = time.process_time()
    for batch in loader.epoch(Subset.of(loader.pool.rows), 0):
        with arithmetic(precision, CPU):
            logits = model(batch.inputs)
        F.cross_entropy(logits.float(), batch.targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return 128 * steps / (time.process_time() - start)


def scoring(name: str, shape: tuple[int, ...], form: tuple[str, bool] | None, n: int) -> float:
    model, pool = build_model(name, classes=10, input_shape=shape, seed=0).eval(), make_pool(n, shape)
    start = time.process_time()
    if form is None:
        with torch.no_grad():
            torch.cat([model(pool.gather(rows)) for rows in pool.rows.split(128)])
    else:
        precision, last = form
        scan(model, pool, needs={"logits"}, precision=precision, channels_last=last)
    return n / (time.process_time() - start)


def in_turn(cases: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    for case in cases.values():
        case()
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            speeds[name].append(case())
    return {name: statistics.median(values) for name, values in speeds.items()}


def overlap(left: Scan, right: Scan, *, highest: bool) -> float:
    k = len(left) // 10
    kept = [set(s.errors(slice(None)).norm(dim=1).topk(k, largest=highest).indices.tolist()) for s in (left, right)]
    return len(kept[0] & kept[1]) / k


def rankings(data: str, root: str | None, epochs: int, samples: int) -> None:
    splits = DATASETS.build(data, root=root)
    rows = torch.randperm(len(splits.train), generator=generator(0, "rows"))[:samples]
    pool = splits.train.only(splits.train.rows[rows])
    model = layout(build_model("resnet20", classes=pool.classes, input_shape=pool.input_shape, seed=0), True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loader = Loader(pool, batch_size=128, seed=0, augment=splits.augment, channels_last=True)
    print("epoch  highest EL2N  lowest EL2N  accuracy of both on their samples")
    for epoch in range(epochs + 1):
        exact, rounded = (scan(model, pool, needs={"logits", "targets"}, precision=p) for p in ("fp32", "bf16"))
        right = [float((s.logits.argmax(1) == s.targets).double().mean()) for s in (exact, rounded)]
        print(f"{epoch:5}  {overlap(exact, rounded, highest=True):12.4f}  "
              f"{overlap(exact, rounded, highest=False):11.4f}  {right[0]:.4f} {right[1]:.4f}", flush=True)  # fmt: skip
        if epoch == epochs:
            return
        model.train()
        for batch in loader.epoch(Subset.of(pool.rows), epoch):
            F.cross_entropy(model(batch.inputs), batch.targets).backward()
            optimizer.step()
            optimizer.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer networks, samples and repeats")
    parser.add_argument("--data", help="data set of the ranking study; none, if not given")
    parser.add_argument("--root")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, repeats = (1, 1) if options.quick else (8, 3)
    nets = dict(list(NETS.items())[:4]) if options.quick else NETS
    print(f"{'images per second':18}" + "".join(f"{name:>20}" for name in ("plain", *FORMS)))
    for name, shape in nets.items():
        flops = count_flops(build_model(name, classes=10, input_shape=shape, seed=0), torch.zeros(1, *shape)).forward
        train = in_turn({key: partial(training, name, shape, form, steps) for key, form in FORMS.items()}, repeats)
        forms = {"plain": None, **FORMS, "default": ("auto", True)}
        score = in_turn({key: partial(scoring, name, shape, form, 256 * steps) for key, form in forms.items()}, repeats)
        print(f"{name} ({flops / 1e6:.1f} MFLOPs forward)")
        print(f"{'  training':18}{'':>20}" + "".join(f"{train[key]:>20.0f}" for key in FORMS))
        print(f"{'  scoring':18}{score['plain']:>20.0f}" + "".join(f"{score[key]:>20.0f}" for key in FORMS)
              + f"   default {score['default'] / score['plain']:.2f}x plain", flush=True)  # fmt: skip
    if options.data:
        rankings(options.data, options.root, options.epochs, options.samples)


if __name__ == "__main__":
    main()
