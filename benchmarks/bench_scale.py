"""Selectors on pools as large as they come: seconds of one thread, and memory beyond what lies in files.

    python benchmarks/bench_scale.py [--n 50000 --classes 10 --features 512] [--imagenet] [--quick] [SELECTOR ...]

The pool is made up: classes of four modes each, a head that has learnt most of them. With --imagenet it has the shape
of ImageNet-1k seen by a ResNet-50 (1,281,167 x 2048 features, 1000 classes, half precision), is written to --folder
(8 GB, made once) and read memory-mapped. Memory is the peak of the process' anonymous pages above those before the
selection: pages of the mapped file can be dropped at any time and do not count.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from sartor.registry import SELECTORS
from sartor.seen import Scan

SCORES = ("least-confidence", "margin", "entropy", "el2n", "loss", "grand")
BY_CLASS = ("gradmatch", "craig", "k-center(balanced=True)", "herding", "moderate(balanced=True)")
BLOCK = 16384
HELD = 5000
"""About so many samples stand for a hold-out, where one is needed; here they are some of the pool's own."""


def make(folder: Path, n: int, classes: int, features: int) -> None:
    """Write features.npy, logits.npy (half precision) and targets.npy, a block at a time, class after class."""
    source = torch.Generator().manual_seed(0)
    modes = torch.randn(classes, 4, features, generator=source)
    head = torch.randn(features, classes, generator=source) / features**0.5
    targets = torch.arange(n) * classes // n
    h = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (n, features))
    z = np.lib.format.open_memmap(folder / "logits.npy", "w+", np.float16, (n, classes))
    for start in range(0, n, BLOCK):
        labels = targets[start : start + BLOCK]
        which = torch.randint(4, (len(labels),), generator=source)
        seen = (modes[labels, which] + torch.randn(len(labels), features, generator=source)).relu()
        logits = seen @ head
        logits[torch.arange(len(labels)), labels] += 3
        h[start : start + BLOCK], z[start : start + BLOCK] = seen.numpy(), logits.numpy()
    np.save(folder / "targets.npy", targets.numpy())


def mapped(folder: Path) -> Scan:
    arrays = {
        "logits": np.load(folder / "logits.npy", mmap_mode="r"),
        "features": np.load(folder / "features.npy", mmap_mode="r"),
        "targets": np.load(folder / "targets.npy"),
    }
    held = slice(0, None, max(1, len(arrays["targets"]) // HELD))
    beside = Scan.from_arrays(**{name: np.array(array[held]) for name, array in arrays.items()})
    return Scan.from_arrays(**arrays, validation=beside, lr=0.1)


def anonymous() -> int:
    """Return the bytes of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status, which only Linux has.")


@contextmanager
def watched() -> Iterator[list[int]]:
    """Note the highest number of anonymous bytes while the block runs."""
    peak, over = [anonymous()], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selectors", nargs="*", help="all that read logits, features and targets, if not given")
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--imagenet", action="store_true", help="the shape of ImageNet-1k seen by a ResNet-50")
    parser.add_argument("--folder", type=Path, help="where the pool is kept; a folder for this run, if not given")
    parser.add_argument("--quick", action="store_true", help="a small pool")
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, classes, features = options.n, options.classes, options.features
    if options.imagenet:
        n, classes, features = 1_281_167, 1000, 2048
    if options.quick:
        n, classes, features = 2000, 10, 32
    known = [
        name
        for name in SELECTORS
        if SELECTORS.build(name).needs <= {"logits", "features", "targets", "validation", "lr"}
    ]
    if options.imagenet:
        known = [spec for spec in (*SCORES, *BY_CLASS) if spec.partition("(")[0] in known]
    specs = options.selectors or known
    with tempfile.TemporaryDirectory(prefix="bench-") as own:
        folder = options.folder or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "targets.npy").exists():
            make(folder, n, classes, features)
        start = time.process_time()
        scan = mapped(folder)
        k = round(options.fraction * len(scan))
        opened = f"opened and checked in {time.process_time() - start:.1f} s"
        print(f"n {len(scan)}, classes {classes}, features {features}, k {k}; {opened}")
        print(f"{'selector':34} {'CPU s':>8} {'clock s':>8} {'MB above':>9}")
        for spec in specs:
            before, cpu, clock = anonymous(), time.process_time(), time.perf_counter()
            with watched() as peak:
                subset = SELECTORS.build(spec).select(scan, k, generator=torch.Generator().manual_seed(0))
            assert len(subset.rows.unique()) == k
            seconds = f"{time.process_time() - cpu:8.1f} {time.perf_counter() - clock:8.1f}"
            print(f"{spec:34} {seconds} {(peak[0] - before) / 2**20:9.0f}", flush=True)


if __name__ == "__main__":
    main()
