"""Made-up run folders with the numbers that real ones have, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ARMS = (
    "dense",
    "dense-steps",
    "random",
    "redrawn",
    "coreset-only",
    "coreset-only+preserve",
    "prune-only",
    "prune-only+preserve",
    "swast-trim",
    "swast-cut",
)
LAYERS = {"conv1.weight": 144, "conv2.weight": 4608, "conv3.weight": 9216, "head.weight": 1280}
CUT = {"conv1.weight": 0.95, "conv2.weight": 0.36, "conv3.weight": 0.24, "head.weight": 0.1}
N, K, EPOCHS, WARMUP, FORWARD = 1167, 233, 40, 4, 1.2e6
FINAL = {  # last-epoch accuracy in % without and with 20 % wrong labels, share of wrong labels in the coreset
    "dense": (99.1, 85.9, None),
    "dense-steps": (98.9, 93.8, None),
    "random": (98.6, 87.9, 0.2),
    "redrawn": (98.9, 89.0, 0.2),
    "coreset-only": (98.8, 98.1, 0.002),
    "prune-only": (99.2, 84.2, None),
    "swast-trim": (98.5, 97.7, 0.002),
    "swast-cut": (98.7, 97.9, 0.001),
}


def results(
    arm: str, seed: int, noise: float, *, match: str = "epochs", matched_arm: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return the contents of a results.json."""
    base = arm.partition("+")[0]
    clean, noisy, ratio = FINAL.get(base, (95.0, 90.0, None))
    draw = np.random.default_rng([seed, len(arm), int(100 * noise), match == "cost"])
    shared = np.random.default_rng([seed, int(100 * noise)]).normal(0, 0.3)
    own = draw.normal(0, 0.9 if noise and noisy < 90 else 0.15) - (0.6 if match == "cost" else 0.0)
    accuracy = round(min((noisy if noise else clean) + shared + own, 100) * 5) / 500
    layers = densities(base)
    purposes, spent, equivalents = costs(base, match, draw)
    removed = sum(round((1 - layers[name]) * size) for name, size in LAYERS.items())
    return {
        "format": 1,
        "recipe": "swast",
        "arm": arm,
        "match": match,
        "seed": seed,
        "data": "digits",
        "model": "cnn",
        "noise": noise,
        "n": N,
        "k": K,
        "epochs": EPOCHS,
        "steps": round(37 * equivalents),
        "test_accuracy": accuracy,
        "best_test_accuracy": min(accuracy + 0.004, 1.0),
        "test_loss": 0.1,
        "validation_accuracy": accuracy,
        "validation_loss": 0.11,
        "noise_ratio": ratio if noise or ratio is None else 0.0,
        "flops": purposes["train"] + purposes.get("select", 0.0),
        "flops_by_purpose": purposes,
        "seconds": spent["train"] + spent.get("select", 0.0),
        "seconds_by_purpose": spent,
        "samples": {"train": {"trained": int(N * equivalents), "forward": 0}},
        "epoch_equivalents": equivalents,
        "parameters": 15418,
        "kept_weights": 15418 - removed,
        "density_by_layer": layers,
        "full_epoch_flops": 3 * FORWARD * N,
        "command": f"sartor train swast --data digits --noise {noise:g} --seed {seed} --out runs/{arm}-{seed}",
        "digest": {"weights": "0" * 64, "masks": None, "subset": None},
        **({"matched_arm": matched_arm} if matched_arm else {}),
        **more,
    }


def densities(base: str) -> dict[str, float]:
    """Return the share of weights kept by layer."""
    if base in ("prune-only", "swast-cut"):
        return dict(CUT)
    return {name: 0.1 if base == "swast-trim" and name == "head.weight" else 1.0 for name in LAYERS}


def costs(base: str, match: str, draw: np.random.Generator) -> tuple[dict[str, float], dict[str, float], float]:
    """Return FLOPs and seconds by purpose, and the epochs' worth of samples that were trained on."""
    equivalents = float(EPOCHS) if base in ("dense", "prune-only") else WARMUP + (EPOCHS - WARMUP) * K / N
    equivalents = 6.0 if match == "cost" else equivalents
    density = 0.42 if base in ("prune-only", "swast-cut") else 1.0
    selects = base.startswith(("coreset", "swast")) and match != "cost"
    flops = {"train": 3 * FORWARD * N * equivalents * density, "monitor": 5e9}
    seconds = {"train": 0.09 * equivalents * (1.06 if density < 1 else 1.0) * draw.uniform(0.95, 1.05), "monitor": 0.4}
    if selects:
        flops["select"], seconds["select"] = FORWARD * N * 8 * density, 0.28 * draw.uniform(0.95, 1.05)
    return flops, seconds, equivalents


def metrics(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return lines of a metrics.jsonl that end where `result` says."""
    draw = np.random.default_rng([result["seed"], len(result["arm"])])
    last = int(result["epochs"] * (0.28 if result["arm"] == "dense-steps" else 1))
    noise, final = result["noise"], result["test_accuracy"]
    peak = max(final, 0.955) if noise else final
    lines: list[dict[str, Any]] = []
    for epoch in range(last):
        done = (epoch + 1) / last
        accuracy = float(peak * (1 - 0.5 * np.exp(-9 * done)) + (final - peak) * done**2 + draw.normal(0, 0.002))
        learnt = (1 - final / peak) * 6 * done
        line = {
            "kind": "epoch",
            "epoch": epoch,
            "lr": 0.05 * (1 - done),
            "steps": 37,
            "samples": N,
            "train_loss": 0.9 * float(np.exp(-4 * done)),
            "density": 1.0,
            "flops": result["flops"] * done,
            "test_accuracy": final if epoch == last - 1 else accuracy,
            "test_loss": 1.1 - accuracy,
            "validation_accuracy": accuracy,
            "validation_loss": 1.09 - accuracy + draw.normal(0, 0.004) + 0.02 * done,
            "loss_clean": 1.5 * float(np.exp(-5 * done)) + 0.05 + draw.normal(0, 0.01),
            "loss_noisy": 2.3 + 3.0 * done - 4.5 * min(learnt, 1.0) * done if noise else None,
        }
        lines.append(line)
        redraws = result["arm"] != "random" or epoch == WARMUP
        if result["noise_ratio"] is not None and redraws and epoch >= WARMUP and (epoch - WARMUP) % 5 == 0:
            ratio = result["noise_ratio"] + 0.02 * float(np.exp(-epoch / 6)) + abs(draw.normal(0, 0.002))
            chosen = {"kind": "selection", "epoch": epoch, "k": K, "class_counts": [23] * 10, "size": K}
            lines.append({**chosen, "noise_ratio": ratio if noise else None})
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
    accuracies: Mapping[str, Sequence[float]] | None = None,
    at_cost: Sequence[str] = (),
    matched_arm: str | None = "swast-cut",
) -> Path:
    """Write a comparison folder with every run finished; `accuracies` sets test accuracies by arm and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*arms, *(f"{arm}@cost" for arm in at_cost)]
    listing = {"arms": names, "baseline": "coreset-only", "random": "redrawn", "seeds": list(seeds)}
    listing |= {"noises": list(noises), "command": "sartor compare swast --data digits --seeds 5"}
    (folder / "compare.json").write_text(json.dumps(listing))
    for noise in noises:
        for name in names:
            arm, _, cost = name.partition("@")
            for seed in seeds:
                more: dict[str, Any] = {"match": "cost", "matched_arm": matched_arm} if cost else {}
                if accuracies and name in accuracies:
                    more["test_accuracy"] = accuracies[name][seed]
                write_run(folder / f"noise-{noise:g}" / name / f"seed-{seed}", results(arm, seed, noise, **more))
    return folder
