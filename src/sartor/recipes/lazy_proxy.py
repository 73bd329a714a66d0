"""A pair of networks on the same mini-batches: a small one goes ahead and keeps the hardest part for a large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sartor.costs_paper import scoring_cost, training_cost
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.digest import digest
from sartor.errors import ConfigError, check_range
from sartor.recipes.by_proxy import ByProxy
from sartor.recipes.forecast import Choosing, Tally
from sartor.recipes.fused_target import Proxy
from sartor.recipes.lazy_epochs import KeptEpochs, LazyEpochs, kept_in, packed, unpacked
from sartor.recipes.outcome import Result, state_of
from sartor.recipes.setup import Setting
from sartor.recipes.staged import Outcome, Stages
from sartor.recipes.state import all_of
from sartor.recipes.timetable import Slot, everything
from sartor.registry import RECIPES


@RECIPES.register("lazy-proxy")
@dataclass(frozen=True, kw_only=True)
class LazyProxy(ByProxy):
    """Learn from the hardest part of each mini-batch, by the losses of a small network that went through them before.

    The small network learns on one step in `every` alone, from that part; the large one then meets the same
    mini-batches and the same augmented views, and learns on every step. With `fusion` it begins from the small one's
    weights, with `kd` it is taught by it.
    Source: Jordan 2024, airbench96_faster. Differs: the small network is this one without channels, not one made for
    it; fusion and distillation are not in the source; all else of the training is the recipe's own.
    """

    name: ClassVar[str] = "lazy-proxy"

    fraction: float = 0.5
    """Share of each mini-batch that the target learns from, those of highest loss."""
    every: int = 4
    """Steps of which the small network learns on the first; on the others it only looks."""
    fusion: bool = False
    """Whether the target begins from the small network's weights, or from its own."""
    kd: bool = False
    """Whether the target is taught by the small network as well."""

    def check(self) -> None:
        """Raise ConfigError for options out of range, or without effect."""
        super().check()
        check_range("every", self.every, 1, float("inf"), high_open=True)
        if self.record != "none":
            raise ConfigError("record has no effect where samples are kept batch by batch; leave it out.")
        self.refuse_weighting()

    def subset_size(self, n: int) -> int:
        """All samples: which of them are kept changes from epoch to epoch."""
        return n

    def kept_of(self, n: int) -> list[int]:
        """Return how many samples of each mini-batch of an epoch are kept."""
        return [kept_in(self.fraction, size) for size in even_sizes(n, self.batch_size)]

    def timetable(self, n: int) -> list[Slot]:
        """All data, in every epoch."""
        return everything(n, self.epochs)

    def check_batches(self, model: nn.Module, n: int, processes: int = 1) -> None:
        """Refuse mini-batches of which too few samples are kept for batch norm, or for each process to have one."""
        super().check_batches(model, n, processes)
        least = min(self.kept_of(n)) // processes
        norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        if least < (2 if norms else 1):
            raise ConfigError(
                f"of a mini-batch {min(self.kept_of(n))} samples are kept for {processes} processes, too few to train "
                "on; use larger batches or a larger fraction."
            )

    def carry_out(self, setting: Setting) -> Result:
        """Let the small network go ahead, then train the large one on what it kept."""
        run, model, pool = setting.run, setting.model, setting.data.train
        model.load_state_dict(run.once("start", lambda: state_of(model)))
        stages = Stages(setting)
        proxy = self.go_ahead(stages)
        kept = unpacked(proxy.outcome.found["kept"], len(pool))
        last = self.follow(stages, proxy, kept)
        return self.concluded(stages, last, all_of(pool), proxy, {"kept": kept_report(pool, kept)})

    def go_ahead(self, stages: Stages) -> Proxy:
        """Train the small network lazily, and tell what it kept of each mini-batch."""
        way = LazyEpochs(len(stages.setting.data.train), self.epochs, fraction=self.fraction, every=self.every)
        about = {"fraction": self.fraction, "every": self.every}
        given = {"way": way, "then": lambda *_: {"kept": packed(way.kept)}, "about": about}
        return self.train_proxy(stages, self.training("pair", **self.proxy_options(self.epochs)), given)

    def follow(self, stages: Stages, proxy: Proxy, kept: Tensor) -> Outcome:
        """Train the large network on what was kept; the seed of the pair gives the same mini-batches and views."""
        setting = stages.setting
        training = self.training("pair", **self.target_options)
        given: dict[str, Any] = {"way": KeptEpochs(kept), "about": {"kept": digest({"kept": kept})}}
        generator = setting.run.generator("fuse")
        return self.train_fused(
            stages, "target", training, setting.data, proxy, lambda: self.drawn(setting), generator, **given
        )

    def learnt(self, n: int) -> tuple[int, int]:
        """Return how many samples the small network learns on, step by step, and how many it only looks at."""
        sizes = even_sizes(n, self.batch_size) * self.epochs
        learnt = sum(sizes[:: self.every])
        return learnt, sum(sizes) - learnt

    def foresee(self, tally: Tally, n: int, held: int, target: float, proxy: float, choosing: Choosing) -> None:
        """Add up the small network's steps and looks, and the training on what is kept."""
        (learnt, looked), samples = self.learnt(n), sum(self.kept_of(n)) * self.epochs
        tally.charge("selector", (3 * learnt + looked) * proxy, trained=learnt, scanned=looked)
        again = n if self.fusion and self.statistics == "estimated" else 0
        tally.charge("fuse", again * target, scanned=again)
        taught = self.taught_by(target, proxy)
        tally.charge("train", 3 * samples * target, trained=samples)
        tally.charge("distill", samples * taught, scanned=samples if taught else 0)

    def paper_costs(self, proxy: int, target: int, inputs: int, n: int) -> dict[str, float]:
        """Return costs by the convention of PruneFuse's paper, which does not have this recipe."""
        learnt, looked = self.learnt(n)
        chooser = training_cost(proxy, inputs, learnt, 1) + scoring_cost(proxy, inputs, looked)
        last = training_cost(target, inputs, sum(self.kept_of(n)), self.epochs)
        return {"selector": chooser, "target": last, "total": chooser + last}


def kept_report(pool: Pool, kept: Tensor) -> dict[str, Any]:
    """Return what was kept over all epochs: its share, how many samples never were, the share of wrong labels in it."""
    times = kept.sum(0)
    wrong = None if pool.noise is None else float(times[pool.noise.flags[all_of(pool).rows]].sum() / times.sum())
    return {
        "share": float(kept.double().mean()),
        "never": int((times == 0).sum()),
        "counts": torch.bincount(times, minlength=len(kept) + 1).tolist(),
        "noise_ratio": wrong,
    }
