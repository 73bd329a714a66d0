"""What DropHot will cost, phase by phase, and how many steps of training cost as much as another way to choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from torch import nn

from sartor.costs import Flops, count_flops
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.recipes.channel_scores import scoring_cost
from sartor.recipes.drophot_options import DropHotOptions
from sartor.recipes.forecast import Choosing, Forecast, Price, Tally, selector_arithmetic
from sartor.recipes.masking import PURPOSE
from sartor.recipes.sampled import drawn_epochs
from sartor.recipes.sampling import is_bounded, looks_of_sampler
from sartor.recipes.supplies import looks_of
from sartor.recipes.timetable import count_steps, fixed_steps


@dataclass(frozen=True)
class Scoring:
    """What scores and chooses costs: FLOPs of a forward pass and of being cut, and a selector's own arithmetic."""

    forward: float
    cut: float
    cut_samples: int
    choosing: Choosing

    @classmethod
    def of(cls, recipe: DropHotOptions, model: nn.Module, pool: Pool) -> Scoring:
        """Cut a network as the recipe will, and count."""
        network, example = recipe.scorer(model, pool), pool.gather(pool.rows[:1])
        passed, flops = 0, 0.0
        if recipe.score_sparsity:
            passed, flops = scoring_cost(recipe.importance, count_flops(model, example).forward, len(pool))
        return cls(count_flops(network, example).forward, flops, passed, selector_arithmetic(recipe, network, pool))

    @staticmethod
    def key(recipe: DropHotOptions) -> tuple[object, ...]:
        """Tell all of a recipe that decides it."""
        cutting = (recipe.score_sparsity, recipe.importance, recipe.seed) if recipe.score_sparsity else ()
        return (recipe.selector, recipe.head, recipe.scoring, *cutting)


@dataclass(frozen=True)
class PrunedNetworks:
    """What a network costs before all prunings and after each, however long it is trained; weights by number.

    `densities`: shares of the weights that live after each pruning, by parameter. Of the last one `left` parameters are
    there, of which `dead` are masked.
    """

    whole: Flops
    pruned: tuple[Flops, ...]
    densities: tuple[Mapping[str, float], ...]
    parameters: int
    left: int
    dead: int

    @classmethod
    def of(cls, recipe: DropHotOptions, model: nn.Module, pool: Pool) -> PrunedNetworks:
        """Prune a network as the recipe will, and count."""
        example, prunings = pool.gather(pool.rows[:1]), recipe.prunings(model, pool)
        return cls(
            count_flops(model, example),
            tuple(count_flops(pruned.model, example) for pruned in prunings),
            tuple(pruned.density for pruned in prunings),
            parameters_of(model),
            parameters_of(prunings[-1].model),
            sum(int((~mask).sum()) for mask in (prunings[-1].masks or {}).values()),
        )

    @staticmethod
    def key(recipe: DropHotOptions) -> tuple[object, ...]:
        """Tell all of a recipe that decides them."""
        return (recipe.one_shot, tuple(recipe.shares), recipe.seed)


class CountedOnce:
    """What recipes on one network and pool need counted, each once for all that have it in common."""

    def __init__(self, model: nn.Module, pool: Pool) -> None:
        self.model, self.pool = model, pool
        self._scoring: dict[tuple[object, ...], Scoring] = {}
        self._networks: dict[tuple[object, ...], PrunedNetworks] = {}

    def scoring(self, recipe: DropHotOptions) -> Scoring:
        """Return what scores and chooses, whatever the sizes, lengths and prunings."""
        key = Scoring.key(recipe)
        if key not in self._scoring:
            self._scoring[key] = Scoring.of(recipe, self.model, self.pool)
        return self._scoring[key]

    def networks(self, recipe: DropHotOptions) -> PrunedNetworks:
        """Return the networks that are pruned, whatever the lengths and coresets."""
        key = PrunedNetworks.key(recipe)
        if key not in self._networks:
            self._networks[key] = PrunedNetworks.of(recipe, self.model, self.pool)
        return self._networks[key]


def forecast_drophot(recipe: DropHotOptions, n: int, held: int, counts: CountedOnce) -> Forecast:
    """Add up what a recipe does on n samples and `held` held-out ones, of which those of `counts` are some.

    Equals the ledger of the run; where all layers are ranked together, it takes what layers of this network would keep.
    """
    networks = counts.networks(recipe)
    forward = networks.whole.forward
    tally = before_pruning(recipe, n, held, forward, counts.scoring(recipe))
    if recipe.match is not None:
        scoring = counts.scoring(recipe.matched_arm)
        size, steps = recipe.subset_size(n), matched_steps(recipe, n, held, forward, scoring)
        samples = trained_in(size, steps, recipe.batch_size)
        tally.charge("train", 3 * samples * forward, trained=samples)
    before = forward
    for counted, density, (start, stop) in zip(networks.pruned, networks.densities, recipe.parts, strict=True):
        if recipe.pruning == "channels":
            passed, flops = scoring_cost(recipe.importance, before, n)
            tally.charge(PURPOSE, flops, trained=passed)
        before = counted.forward
        samples = n * (stop - start)
        each = counted.forward if recipe.regrows else counted.masked(density)
        tally.charge("tune", 3 * samples * each, trained=samples)
    start, stop = recipe.parts[-1]
    return Forecast(
        n=n,
        k=recipe.subset_size(n),
        epochs=stop - start,
        steps=(stop - start) * len(even_sizes(n, recipe.batch_size)),
        trained=tally.trained,
        scanned=tally.scanned,
        selections=sum(slot.draws for slot in recipe.timetable(n)) + (recipe.make_selector() is not None),
        moves=0,
        parameters=networks.parameters,
        kept_weights=networks.left - (0 if recipe.regrows else networks.dead),
        flops_by_purpose=tally.flops,
        bounded=is_bounded(recipe.make_sampler()),
    )


def before_pruning(recipe: DropHotOptions, n: int, held: int, forward: float, scoring: Scoring) -> Tally:
    """Add up scoring, selection and, unless its length is matched to other costs, the training before the pruning."""
    tally, selector, k = Tally(), recipe.make_selector(), recipe.subset_size(n)
    if recipe.is_scored:
        samples = n * recipe.scored
        passes = (recipe.recording == "epoch") + ("scores" in recipe.defects)
        tally.charge(PURPOSE, scoring.cut, trained=scoring.cut_samples)
        tally.charge("score", 3 * samples * scoring.forward, trained=samples)
        tally.charge("record", passes * samples * scoring.forward, scanned=passes * samples)
    if selector is not None and "scores" not in recipe.defects:
        looks, each = looks_of(selector, n, held=held, done=recipe.scored), scoring.forward
        tally.charge_looks(looks, Price(each, 3 * each, 3 * each), [], n)
        tally.charge("select", scoring.choosing(n, k))
    sampler = recipe.make_sampler()
    drawn = [] if sampler is None else [slot for slot in drawn_epochs(sampler, k, recipe.trained) if slot.draws]
    for number, _ in enumerate(drawn):
        looks = looks_of_sampler(sampler, n, k, first=number == 0)
        tally.charge_looks(looks, Price(forward, 3 * forward, 3 * forward), [], n)
        tally.charge("select", scoring.choosing(n, k))
    if recipe.match is None:
        samples = k * recipe.trained
        tally.charge("train", 3 * samples * forward, trained=samples)
    return tally


def matched_steps(recipe: DropHotOptions, n: int, held: int, forward: float, scoring: Scoring) -> int:
    """Return the steps before the pruning that cost nearest to what the matched arm costs there, 1 at least.

    `forward` are the FLOPs of a forward pass of the network that is trained; `scoring` is that of the matched arm.
    """
    aim = sum(before_pruning(recipe.matched_arm, n, held, forward, scoring).flops.values()) / (3 * forward)
    size = recipe.subset_size(n)
    done = [0, *accumulate(even_sizes(size, recipe.batch_size))]
    whole, rest = divmod(aim, size)
    more = min(range(len(done)), key=lambda steps: abs(done[steps] - rest))
    return max(1, int(whole) * (len(done) - 1) + more)


def trained_in(n: int, steps: int, batch_size: int) -> int:
    """Return how many samples so many steps on n samples train on."""
    slots = fixed_steps(n, steps, batch_size)
    assert count_steps(slots, batch_size) == steps
    return sum(sum(even_sizes(n, batch_size)[: slot.steps(batch_size)]) for slot in slots)


def parameters_of(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
