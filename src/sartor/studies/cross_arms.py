"""The arms of cross: what is asked, by which runs, and which of them begin with what another one has left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sartor.recipes.arms import dense, make_arm
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.recipe import Recipe
from sartor.recipes.swast import SWaST
from sartor.recipes.timetable import default_warmup

if TYPE_CHECKING:
    from sartor.studies.cross import CrossStudy

OWN, PROXY, DENSE, RANDOM = "own network", "proxy", "dense network", "random"
ZEROS, RETAINED, SPARSE = "filled with zeros", "filled with first weights", "not filled, its masks stay"
FRESH, LONGER = "dense anew", "SWaST-cut, longer"
SCRATCH, FUSED = "from scratch", "fused"
SELECTS, LOOKS, TEACHES, FILLS = "who selects", "who was asked", "who teaches", "fused after SWaST-cut"
SOURCES = {
    (SELECTS, PROXY, "epochs"): (LOOKS, PROXY, "epochs"),
    (SELECTS, PROXY, "total"): (LOOKS, PROXY, "total"),
    (SELECTS, DENSE, "epochs"): (LOOKS, DENSE, "epochs"),
    (FILLS, ZEROS, "total"): (SELECTS, OWN, "epochs"),
    (FILLS, RETAINED, "total"): (SELECTS, OWN, "epochs"),
    (FILLS, SPARSE, "total"): (SELECTS, OWN, "epochs"),
}
"""Question, arm and match of a run -> those of the run whose coresets or weights it takes, at its cost."""
Arm = tuple[str, str]
"""An arm and what it is matched by."""

Arms = Iterator[tuple[Arm, Recipe]]
"""The arms of one question, with their recipes."""


def arms_of(study: CrossStudy) -> Iterator[tuple[dict[str, Any], Recipe]]:
    """Yield the runs of the three questions, and those that were asked for coresets."""
    makers = {SELECTS: selecting, LOOKS: asked, TEACHES: teaching, FILLS: filling}
    for question, make in makers.items():
        for (arm, match), recipe in make(study):
            yield {"question": question, "arm": arm, "match": match}, recipe


def joint(study: CrossStudy, **options: Any) -> SWaST:
    """Make SWaST-cut."""
    return study.base(selector=study.selector, fraction=study.fraction, sparsity=study.sparsity).with_options(**options)


def only(study: CrossStudy) -> Recipe:
    """Make what a proxy is trained by: coresets with all weights."""
    return make_arm("coreset-only", joint(study), n=10_000)


def selecting(study: CrossStudy) -> Arms:
    """Yield SWaST-cut by its own choice and by that of others, with its epochs, and at its whole cost."""
    drawn = joint(study, selector="random")
    yield (OWN, "epochs"), joint(study)
    yield (RANDOM, "epochs"), drawn
    yield (RANDOM, "total"), study.at_cost(drawn, study.forecaster()(joint(study)).flops)
    yield (PROXY, "epochs"), drawn
    yield (DENSE, "epochs"), drawn
    yield (PROXY, "total"), drawn.with_options(**shared_length(study))


def asked(study: CrossStudy) -> Arms:
    """Yield the trainings whose coresets SWaST-cut takes: of the proxy and of the dense network."""
    yield (PROXY, "epochs"), only(study)
    yield (PROXY, "total"), only(study).with_options(**shared_length(study))
    yield (DENSE, "epochs"), only(study)


def shared_length(study: CrossStudy) -> dict[str, int]:
    """Return the epochs in which a proxy and SWaST-cut by its coresets together cost about what SWaST-cut alone does.

    They are sought twice: with a warm-up that follows from them, and then with the one that was found.
    """
    whole, small = study.forecaster(), study.forecaster(study.model_of({"question": LOOKS, "arm": PROXY}))
    target = whole(joint(study)).flops

    def apart(length: dict[str, int]) -> float:
        both = small(only(study).with_options(**length)).flops
        return abs(both + whole(joint(study, selector="random", **length)).flops - target)

    lengths = range(joint(study).fewest_epochs, study.epochs + 1)
    first = min(({"epochs": epochs} for epochs in lengths), key=apart)
    warmup = default_warmup(first["epochs"], study.fraction)
    return min(({"epochs": epochs, "warmup": warmup} for epochs in lengths if epochs > warmup), key=apart)


def teaching(study: CrossStudy) -> Arms:
    """Yield PruneFuse with and without fusion, by labels alone, by distillation and by preservation.

    With weight w, l + w KL at temperature 1 is preservation: (1 + w) times distillation's loss where the labels
    have 1 / (1 + w); the factor is made up for by the learning rate.
    """
    common: dict[str, Any] = {"epochs": study.epochs, "batch_size": study.batch_size, "lr": study.lr, "probe": 0}
    common |= {"evaluate_every": 10**6, "schedule": "cosine", "budgets": study.budgets}
    common |= {"acquisition": study.acquisition, "sparsity": study.proxy_sparsity}
    ways: dict[str, tuple[float, dict[str, Any]]] = {"labels alone": (1.0, {"kd": False})}
    ways["distillation"] = (1.0, {"temperature": study.temperature})
    for w in study.weights:
        ways[f"preservation {w:g}"] = (1 + w, {"kd_weight": 1 / (1 + w), "temperature": 1.0})
    starts = {FUSED: (True, study.target_lr), SCRATCH: (False, study.scratch_lr)}
    for (start, (fusion, rate)), (way, (factor, options)) in itertools.product(starts.items(), ways.items()):
        yield (f"{start}, {way}", "epochs"), PruneFuse(fusion=fusion, **common, **options, target_lr=rate * factor)


def filling(study: CrossStudy) -> Arms:
    """Yield trainings of filled networks on all data, and what the same cost brings without one or the other."""
    tuned = dense(joint(study), epochs=study.tuning, lr=study.tuning_lr)
    own, more = (study.forecaster()(recipe).flops for recipe in (joint(study), tuned))
    target = own + more
    sparse = make_arm("prune-only", joint(study), n=10_000).with_options(epochs=study.tuning, lr=study.tuning_lr)
    yield (ZEROS, "total"), tuned
    yield (RETAINED, "total"), tuned
    yield (SPARSE, "total"), study.at_cost(sparse, more)
    yield (FRESH, "total"), study.at_cost(dense(joint(study)), target)
    yield (LONGER, "total"), study.at_cost(joint(study), target)
