"""Made-up picture files in class folders, for the tests of everything that reads pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("cat", "dog", "owl")


def pixels_of(kind: int, number: int, height: int = 12, width: int = 12) -> np.ndarray:
    """Noise over a colour of the kind: (height, width, 3) bytes."""
    generator = np.random.default_rng([kind, number])
    base = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220]])[kind % 3]
    return np.clip(base + generator.integers(-40, 41, (height, width, 3)), 0, 255).astype(np.uint8)


def write_folder(root: Path, count: int = 10, *, kinds: tuple[str, ...] = KINDS, mixed: bool = False) -> Path:
    """Write `count` pictures a class as KIND/NUMBER.png; mixed ones differ in size, suffix and mode."""
    for kind, name in enumerate(kinds):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            size = (12 + number % 3, 12 + number % 4) if mixed else (12, 12)
            image = Image.fromarray(pixels_of(kind, number, *size))
            if mixed and number % 5 == 1:
                image = image.convert("L")
            if mixed and number % 5 == 2:
                image = image.convert("P")
            if mixed and number % 5 == 3:
                image = image.convert("RGBA")
            jpeg = mixed and number % 5 == 4
            image.save(root / name / f"{number:03d}{'.JPG' if jpeg else '.png'}")
    return root
