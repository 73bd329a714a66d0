"""Made-up run folders with the numbers that real ones have, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ARMS = ("dense", "dense-steps", "random", "redrawn", "coreset-only", "coreset-only+preserve",
        "prune-only", "prune-only+preserve", "swast-trim", "swast-cut")  # fmt: skip
LAYERS = {"conv1.weight": 144, "conv2.weight": 4608, "conv3.weight": 9216, "head.weight": 1280}
_FINAL = {  # last-epoch accuracy in % without and with 20 % wrong labels, share of wrong labels in the coreset
    "dense": (99.1, 85.9, None), "dense-steps": (98.9, 93.8, None), "random": (98.6, 87.9, 0.2),
    "redrawn": (98.9, 89.0, 0.2), "coreset-only": (98.8, 98.1, 0.002), "prune-only": (99.2, 84.2, None),
    "swast-trim": (98.5, 97.7, 0.002), "swast-cut": (98.7, 97.9, 0.001),
}  # fmt: skip
_N, _K, _EPOCHS, _WARMUP, _FORWARD = 1167, 233, 40, 4, 1.2e6


def results(
    arm: str, seed: int, noise: float, *, match: str = "epochs", matched_arm: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return the contents of a results.json."""
    base = arm.partition("+")[0]
    draw = np.random.default_rng([seed, len(arm), int(100 * noise), match == "cost"])
    clean, noisy, ratio = _FINAL.get(base, (95.0, 90.0, None))
    shared = np.random.default_rng([seed, int(100 * noise)]).normal(0, 0.3)
    accuracy = (noisy if noise else clean) + shared + draw.normal(0, 0.9 if noise and noisy < 90 else 0.15)
    small = base in {"random", "redrawn", "coreset-only", "swast-trim", "swast-cut"}
    pruned, cut = base in {"prune-only", "swast-cut", "swast-trim"}, base in {"prune-only", "swast-cut"}
    equivalents = (_WARMUP + (_EPOCHS - _WARMUP) * _K / _N) if small or base == "dense-steps" else float(_EPOCHS)
    layers = {
        name: {"conv1.weight": 0.95, "conv2.weight": 0.36, "conv3.weight": 0.24}.get(name, 1.0) if cut else 1.0
        for name in LAYERS
    }
    if pruned:
        layers["head.weight"] = 0.1
    train = 3 * _FORWARD * _N * equivalents * (0.42 if cut else 1.0)
    select = _FORWARD * _N * 8 * (0.42 if cut else 1.0) if base.startswith(("coreset", "swast")) else 0.0
    if match == "cost":
        train, select, equivalents = 3 * _FORWARD * _N * 6.0, 0.0, 6.0
        accuracy -= 0.6
    purposes = {"train": train, **({"select": select} if select else {}), "monitor": 5e9}
    run = {"train": 0.09 * equivalents * (1.06 if pruned else 1.0), "select": 0.28, "monitor": 0.4}
    spent = {name: run[name] * draw.uniform(0.95, 1.05) for name in purposes}
    kept = 15418 - sum(round((1 - layers[name]) * size) for name, size in LAYERS.items())
    return {
        "format": 1, "recipe": "swast", "arm": arm, "match": match, "seed": seed, "data": "digits", "model": "cnn",
        "noise": noise, "n": _N, "k": _K, "epochs": _EPOCHS, "steps": 452 if small else 1640,
        "test_accuracy": round(min(accuracy, 100) * 5) / 500, "best_test_accuracy": min(round(accuracy * 5 + 2) / 500, 1.0),
        "test_loss": 0.1, "validation_accuracy": accuracy / 100, "validation_loss": 0.11,
        "noise_ratio": ratio if noise else (0.0 if ratio is not None else None), "flops": train + select,
        "flops_by_purpose": purposes, "seconds": spent["train"] + spent.get("select", 0.0), "seconds_by_purpose": spent,
        "samples": {"train": {"trained": int(_N * equivalents), "forward": 0}}, "epoch_equivalents": equivalents,
        "parameters": 15418, "kept_weights": kept, "density_by_layer": layers, "full_epoch_flops": 3 * _FORWARD * _N,
        "command": f"sartor train swast --data digits --model cnn --noise {noise:g} --seed {seed} --out runs/{arm}-{seed}",
        "digest": {"weights": "0" * 64, "masks": None, "subset": None},
        **({"matched_arm": matched_arm} if matched_arm else {}), **more,
    }  # fmt: skip


def metrics(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return lines of a metrics.jsonl that end where `result` says."""
    draw = np.random.default_rng([result["seed"], len(result["arm"])])
    last = int(result["epochs"] * (0.28 if result["arm"] == "dense-steps" else 1))
    noise, final = result["noise"], result["test_accuracy"]
    peak = max(final, 0.955) if noise else final
    lines: list[dict[str, Any]] = []
    selects = result["noise_ratio"] is not None
    for epoch in range(last):
        done = (epoch + 1) / last
        accuracy = peak * (1 - 0.5 * np.exp(-9 * done)) + (final - peak) * done**2 + draw.normal(0, 0.002)
        learnt = (1 - final / peak) * 6 * done if noise else 0.0
        lines.append({
            "kind": "epoch", "epoch": epoch, "lr": 0.05 * (1 - done), "steps": 37, "samples": _N,
            "train_loss": 0.9 * float(np.exp(-4 * done)), "test_accuracy": final if epoch == last - 1 else float(accuracy),
            "test_loss": 1.1 - float(accuracy), "validation_accuracy": float(accuracy),
            "validation_loss": 1.09 - float(accuracy) + draw.normal(0, 0.004) + 0.02 * done,
            "loss_clean": 1.5 * float(np.exp(-5 * done)) + 0.05 + draw.normal(0, 0.01),
            "loss_noisy": (2.3 + 3.0 * done - 4.5 * min(learnt, 1.0) * done) if noise else None, "density": 1.0, "flops": result["flops"] * done,
        })  # fmt: skip
        if (
            selects
            and epoch >= _WARMUP
            and (epoch - _WARMUP) % 5 == 0
            and not (result["arm"] == "random" and epoch > _WARMUP)
        ):
            ratio = result["noise_ratio"] + (0.02 * float(np.exp(-epoch / 6)) + draw.normal(0, 0.002) if noise else 0.0)
            lines.append({"kind": "selection", "epoch": epoch, "k": _K, "noise_ratio": ratio if noise else None, "class_counts": [23] * 10, "size": _K})  # fmt: skip
    return lines


def write_run(folder: Path, result: dict[str, Any]) -> Path:
    """Write one finished run folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"recipe": result["recipe"], "seed": result["seed"]}))
    (folder / "results.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics(result)))
    return folder


def write_comparison(
    folder: Path,
    *,
    arms: Sequence[str] = ARMS,
    seeds: Sequence[int] = range(5),
    noises: Sequence[float] = (0.0, 0.2),
    at_cost: Sequence[str] = (),
    matched_arm: str | None = "swast-cut",
) -> Path:
    """Write a comparison folder with every run finished."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*arms, *(f"{arm}@cost" for arm in at_cost)]
    listing = {"arms": names, "baseline": "coreset-only", "random": "redrawn", "seeds": list(seeds), "noises": list(noises), "command": "sartor compare swast --data digits --seeds 5"}  # fmt: skip
    (folder / "compare.json").write_text(json.dumps(listing))
    for noise in noises:
        for name in names:
            arm, _, cost = name.partition("@")
            for seed in seeds:
                matched = {"match": "cost", "matched_arm": matched_arm} if cost else {}
                write_run(folder / f"noise-{noise:g}" / name / f"seed-{seed}", results(arm, seed, noise, **matched))
    return folder
