"""What the training loop costs over a hand-written one: same network, same batches, both sides in one run.

python benchmarks/bench_loop.py [--quick]
CPU seconds of the process, one thread, the two sides in turn, medians; bar: at most 2 % for ResNet-20.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from sartor.costs import Ledger, count_flops
from sartor.data.loader import Loader
from sartor.data.pool import Pool
from sartor.models.build import build_model
from sartor.run import Run
from sartor.train import Trainer
from sartor.types import Subset


def make_pool(n: int, shape: tuple[int, ...]) -> Pool:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=generator)
    return Pool.from_arrays(images, torch.randint(0, 10, (n,), generator=generator), classes=10)


def make_model(name: str, shape: tuple[int, ...]) -> tuple[torch.nn.Module, torch.optim.SGD]:
    model = build_model(name, classes=10, input_shape=shape, seed=0).to(memory_format=torch.channels_last)
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)


def by_hand(name: str, pool: Pool, batch_size: int, epochs: int) -> float:
    model, optimizer = make_model(name, pool.input_shape)
    model.train()
    images, targets = pool.inputs, pool.targets
    start = time.process_time()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for rows in order.tensor_split(round(len(images) / batch_size)):
            batch = images[rows].float().div_(255).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(batch), targets[rows]).backward()
            optimizer.step()
    return time.process_time() - start


def by_sartor(name: str, pool: Pool, batch_size: int, epochs: int) -> float:
    model, optimizer = make_model(name, pool.input_shape)
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder) / "run", {}, seed=0) as run:
        trainer = Trainer(
            run=run,
            model=model,
            optimizer=optimizer,
            loader=Loader(pool, batch_size=batch_size, seed=0, channels_last=True),
            flops=count_flops(model, pool.gather(pool.rows[:1])),
            ledger=run.track("ledger", Ledger()),
            total_steps=epochs * round(len(pool) / batch_size),
            device=torch.device("cpu"),
            lr=0.01,
        )
        everything = Subset.of(pool.rows)
        start = time.process_time()
        for epoch in run.epochs(epochs, "train"):
            trainer.meter.start(run.step)
            trainer.train_epoch(everything, epoch, purpose="train")
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples and repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    cases = [
        ("resnet20", (3, 32, 32), 256 if quick else 1024, 128, 1),
        ("lenet", (1, 28, 28), 4096, 128, 1 if quick else 4),
    ]
    cases.append(("cnn(width=16)", (1, 8, 8), 1024, 32, 2 if quick else 8))
    print(f"{'network':<16}{'batch':>6}{'by hand s':>12}{'sartor s':>12}{'overhead':>10}{'(min .. max)':>18}")
    for name, shape, n, batch_size, epochs in cases:
        pool = make_pool(n, shape)
        hand, ours = [], []
        for repeat in range(4 if quick else 8):
            first, second = by_hand(name, pool, batch_size, epochs), by_sartor(name, pool, batch_size, epochs)
            if repeat:
                hand.append(first)
                ours.append(second)
        ratios = sorted(b / a - 1 for a, b in zip(hand, ours, strict=True))
        spread = f"({100 * ratios[0]:.1f} .. {100 * ratios[-1]:.1f})"
        print(
            f"{name:<16}{batch_size:>6}{statistics.median(hand):>12.3f}{statistics.median(ours):>12.3f}"
            f"{100 * statistics.median(ratios):>9.1f}%{spread:>18}"
        )


if __name__ == "__main__":
    main()
