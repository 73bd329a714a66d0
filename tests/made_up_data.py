"""Made-up files in the layouts of real data sets, for the commands that the documentation shows."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PICTURES = 24


def write_everything(folder: Path) -> None:
    """Write a `data` folder with MNIST, CIFAR and ImageNet, a folder of pictures, a table, and texts."""
    write_idx_files(folder / "data")
    write_cifar(folder / "data")
    for part in ("train", "val"):
        write_pictures(folder / "data" / part, ("n01440764", "n01443537"))
    write_pictures(folder / "pets", ("cat", "dog"))
    rows = [f"{number},{number % 7},{('lily', 'rose')[number % 2]}" for number in range(100)]
    (folder / "table.csv").write_text("\n".join(["length,width,kind", *rows]) + "\n")
    texts = [f"{number % 2 + 1},{('bad', 'good')[number % 2]} no. {number}" for number in range(100)]
    (folder / "reviews.csv").write_text("\n".join(["label,text", *texts]) + "\n")
    (folder / "ag_news_csv").mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / "ag_news_csv" / name).write_text("\n".join(texts) + "\n")


def write_idx_files(folder: Path) -> None:
    """Write a few made-up pictures as the files of MNIST and of Fashion-MNIST."""
    source = torch.Generator().manual_seed(0)
    for place in ("mnist/MNIST/raw", "fashion-mnist/FashionMNIST/raw"):
        target = folder / place
        target.mkdir(parents=True)
        for prefix, n in (("train", 200), ("t10k", 40)):
            images = torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=source)
            labels = (torch.arange(n) % 10).to(torch.uint8)
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
                (target / f"{prefix}-{kind}-ubyte").write_bytes(head + values.numpy().tobytes())


def write_cifar(folder: Path, n: int = 200) -> None:
    """Write CIFAR-10's binary batches, and CIFAR-100's, of n images each."""
    generator = np.random.default_rng(0)
    for names, labels, classes in (
        ([f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)], 1, 10),
        (["cifar-10-batches-bin/test_batch.bin"], 1, 10),
        (["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"], 2, 100),
    ):
        for name in names:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            kinds = np.stack([np.arange(n) % (classes if place else 10) for place in range(labels)], axis=1)
            images = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
            path.write_bytes(np.concatenate([kinds.astype(np.uint8), images], axis=1).tobytes())


def write_pictures(folder: Path, classes: tuple[str, ...]) -> None:
    """Write pictures of one size in a folder for each class."""
    generator = np.random.default_rng(0)
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(PICTURES):
            image = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(folder / kind / f"{kind}_{number}.png")
