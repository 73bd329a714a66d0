"""What DropHot will cost, phase by phase, and how many steps of training cost as much as another way to choose."""

from __future__ import annotations

from itertools import accumulate

from torch import nn

from sartor.costs import count_flops
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


def forecast_drophot(recipe: DropHotOptions, model: nn.Module, pool: Pool, n: int, held: int) -> Forecast:
    """Add up what a recipe does on a pool of n samples and `held` held-out ones, of which `pool` has some.

    Equals the ledger of the run; where all layers are ranked together, it takes what layers of this network would keep.
    """
    forward = count_flops(model, pool.gather(pool.rows[:1])).forward
    tally = before_pruning(recipe, n, held, forward, selector_arithmetic(recipe, model, pool))
    if recipe.match is not None:
        choosing = selector_arithmetic(recipe.matched_arm, model, pool)
        size, steps = recipe.subset_size(n), matched_steps(recipe, n, held, forward, choosing)
        samples = trained_in(size, steps, recipe.batch_size)
        tally.charge("train", 3 * samples * forward, trained=samples)
    prunings, parameters = recipe.prunings(model, pool), parameters_of(model)
    before = forward
    for pruned, (start, stop) in zip(prunings, recipe.parts, strict=True):
        counted = count_flops(pruned.model, pool.gather(pool.rows[:1]))
        passed, scoring = scoring_cost(recipe.importance, before, n)
        tally.charge(PURPOSE, scoring, trained=passed)
        before = counted.forward
        samples = n * (stop - start)
        each = counted.forward if recipe.regrows else counted.masked(pruned.density)
        tally.charge("tune", 3 * samples * each, trained=samples)
    last, (start, stop) = prunings[-1], recipe.parts[-1]
    dead = 0 if recipe.regrows else sum(int((~mask).sum()) for mask in (last.masks or {}).values())
    return Forecast(
        n=n,
        k=recipe.subset_size(n),
        epochs=stop - start,
        steps=(stop - start) * len(even_sizes(n, recipe.batch_size)),
        trained=tally.trained,
        scanned=tally.scanned,
        selections=sum(slot.draws for slot in recipe.timetable(n)) + (recipe.make_selector() is not None),
        moves=0,
        parameters=parameters,
        kept_weights=parameters_of(last.model) - dead,
        flops_by_purpose=tally.flops,
        bounded=is_bounded(recipe.make_sampler()),
    )


def before_pruning(recipe: DropHotOptions, n: int, held: int, forward: float, choosing: Choosing) -> Tally:
    """Add up scoring, selection and, unless its length is matched to other costs, the training before the pruning."""
    tally, selector, k = Tally(), recipe.make_selector(), recipe.subset_size(n)
    if recipe.is_scored:
        samples = n * recipe.scored
        passes = (recipe.recording == "epoch") + ("scores" in recipe.defects)
        tally.charge("score", 3 * samples * forward, trained=samples)
        tally.charge("record", passes * samples * forward, scanned=passes * samples)
    if selector is not None and "scores" not in recipe.defects:
        looks = looks_of(selector, n, held=held, done=recipe.scored)
        tally.charge_looks(looks, Price(forward, 3 * forward, 3 * forward), [], n)
        tally.charge("select", choosing(n, k))
    sampler = recipe.make_sampler()
    drawn = [] if sampler is None else [slot for slot in drawn_epochs(sampler, k, recipe.trained) if slot.draws]
    for number, _ in enumerate(drawn):
        looks = looks_of_sampler(sampler, n, k, first=number == 0)
        tally.charge_looks(looks, Price(forward, 3 * forward, 3 * forward), [], n)
        tally.charge("select", choosing(n, k))
    if recipe.match is None:
        samples = k * recipe.trained
        tally.charge("train", 3 * samples * forward, trained=samples)
    return tally


def matched_steps(recipe: DropHotOptions, n: int, held: int, forward: float, choosing: Choosing) -> int:
    """Return the steps before the pruning that cost nearest to what the matched arm costs there, 1 at least.

    `choosing` counts the arithmetic of the matched arm's selector.
    """
    aim = sum(before_pruning(recipe.matched_arm, n, held, forward, choosing).flops.values()) / (3 * forward)
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
