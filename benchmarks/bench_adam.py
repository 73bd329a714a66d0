"""A step of Adam as recipes take it, at once over the memory, beside torch's default on the CPU.

python benchmarks/bench_adam.py [--quick]
Milliseconds, one thread, the two sides in turn, medians; bar: never slower.
"""

import argparse
import statistics
import time

import torch

from sartor.models.build import build_model
from sartor.recipes import Dense
from sartor.recipes.optimizing import make_optimizer


def milliseconds(optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    optimizer.step()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    steps = 10 if parser.parse_args().quick else 100
    torch.set_num_threads(1)
    cases = {"fc": (1, 28, 28), "lenet": (1, 28, 28), "resnet20": (3, 32, 32), "resnet18(stem=imagenet)": (3, 32, 32)}
    print("network                    parameters   default    ours   ratio")
    for name, shape in cases.items():
        model = build_model(name, classes=10, input_shape=shape, seed=0)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        sides = [torch.optim.Adam(model.parameters(), lr=1e-6), make_optimizer(Dense(optimizer="adam", lr=1e-6), model)]
        taken = [[milliseconds(side) for side in sides] for _ in range(steps)][2:]
        default, ours = (statistics.median(column) for column in zip(*taken))
        size = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name:25} {size:11,} {default:9.2f} {ours:7.2f} {default / ours:6.1f}x")


if __name__ == "__main__":
    main()
