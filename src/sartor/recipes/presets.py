"""Published settings by name: what `--preset swast/cifar10-resnet18` stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sartor.errors import ConfigError, nearest


@dataclass(frozen=True)
class Preset:
    """Options of a recipe, its data set and its network, as a paper has them."""

    recipe: str
    what: str
    source: str
    data: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """All options by name, data set and network among them."""
        return {"data": self.data, "model": self.model, **self.options}


class Presets(Mapping[str, Preset]):
    """A table of presets. Raises: ConfigError: for an unknown name, nearest one suggested."""

    def __init__(self, presets: Mapping[str, Preset]) -> None:
        self._presets = dict(presets)

    def __getitem__(self, name: str) -> Preset:
        if name not in self._presets:
            hint = nearest(name, self._presets)
            raise ConfigError(f"there is no preset called {name!r}; sartor list presets names them.{hint}")
        return self._presets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __len__(self) -> int:
        return len(self._presets)

    def __contains__(self, name: object) -> bool:
        return name in self._presets

    def describe(self, name: str) -> str:
        """Return what a preset is and where it stands, and its data set and network."""
        preset = self[name]
        return f"{preset.source}, {preset.what}; data {preset.data}, model {preset.model}"

    def values(self, name: str, recipe: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        """Return a preset's options. Raises: ConfigError: for a preset of another recipe than the one named."""
        preset = self[name]
        if recipe not in (None, preset.recipe):
            others = [other for other in self if self[other].recipe == recipe]
            known = f"those of {recipe}: {', '.join(others)}" if others else f"there are none for {recipe}"
            raise ConfigError(f"preset {name!r} is for {preset.recipe}, not for {recipe}; {known}.")
        return preset.values


_SWAST = {
    "epochs": 300,
    "batch_size": 128,
    "lr": 0.05,
    "schedule": "cosine",
    "optimizer": "sgd",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "holdout": 0.1,
    "fraction": 0.1,
    "every": 20,
    "selector": "gradmatch(per=batch, batch_size=128, ridge=0)",
    "pruner": "rigl",
    "variant": "cut",
    "preserve_weight": 0.1,
}
"""SWaST, Sec. 4.1 and appendix, for CIFAR. The warm-up is not given: it is ceil(epochs * fraction / 2)."""
_TINY = {"batch_size": 256, "selector": "moderate"}
_LARGE = {"epochs": 90, "batch_size": 512, "every": 5, "selector": "el2n(keep=switch)"}


def _swast(what: str, source: str, data: str, model: str, **options: Any) -> Preset:
    return Preset("swast", what, f"Wan et al. 2025, {source}", data, model, {**_SWAST, **options})


PRESETS = Presets(
    {
        "swast/cifar10-resnet18": _swast("GradMatch", "Table 1", "cifar10", "resnet18"),
        "swast/cifar10-resnet101": _swast("GradMatch", "Tables 1 and 2", "cifar10", "resnet101"),
        "swast/cifar100-resnet18": _swast("GradMatch", "Table 1", "cifar100", "resnet18"),
        "swast/cifar100-resnet101": _swast("GradMatch", "Table 1", "cifar100", "resnet101"),
        "swast/tinyimagenet-resnet101": _swast("Moderate", "Table 1", "tinyimagenet", "resnet101", **_TINY),
        "swast/imagenet-resnet101": _swast("EL2N", "Table 1", "imagenet", "resnet101", **_LARGE),
        "swast/coreset-noise": _swast(
            "wrong labels in the coreset",
            "Fig. 5a",
            "cifar10",
            "resnet18",
            selector="el2n(keep=switch)",
            noise=0.1,
            sparsity=0.9,
        ),
        "swast/loss-split": _swast("loss of right and wrong labels", "Fig. 5c", "cifar100", "resnet101", noise=0.1),
        "swast/prune-rates": _swast(
            "accuracy by prune rate", "Fig. 6", "cifar10", "resnet18", selector="moderate", noise=0.1, sparsity=0.9
        ),
        "swast/classifier-backbone": _swast(
            "prune rates of classifier and backbone", "Fig. 7", "cifar10", "resnet18", fraction=0.01
        ),
        "swast/preservation": _swast(
            "state preservation: none, selective, complete",
            "ablation",
            "cifar10",
            "resnet101",
            selector="moderate",
            noise=0.2,
            sparsity=0.7,
            preserve="complete",
        ),
    }
)
"""Presets by name. Where the paper runs over values (sparsity, fraction, preserve), flags give the others."""
