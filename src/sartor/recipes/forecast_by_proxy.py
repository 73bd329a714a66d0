"""What a recipe will cost in which one network goes ahead and another follows."""

from __future__ import annotations

from torch import nn

from sartor.costs import count_flops
from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.recipes.by_proxy import PRUNED, ByProxy
from sartor.recipes.channel_scores import scoring_cost
from sartor.recipes.forecast import Forecast, Tally, selector_arithmetic
from sartor.recipes.masking import PURPOSE


def forecast_by_proxy(recipe: ByProxy, model: nn.Module, pool: Pool, n: int, held: int) -> Forecast:
    """Add up what a recipe does on a pool of n samples and `held` held-out ones, of which `pool` has some.

    Equals the ledger of the run, if the channels that leave are as many as in this network.
    """
    example, tally = pool.gather(pool.rows[:1]), Tally()
    target, network = count_flops(model, example).forward, recipe.proxy_network(model, pool)
    if recipe.has_proxy and recipe.proxy == PRUNED:
        passed, flops = scoring_cost(recipe.importance, target, n)
        tally.charge(PURPOSE, flops, trained=passed)
    choosing, proxy = selector_arithmetic(recipe, network, pool), count_flops(network, example).forward
    recipe.foresee(tally, n, held, target, proxy, choosing)
    k, parameters = recipe.subset_size(n), sum(parameter.numel() for parameter in model.parameters())
    return Forecast(
        n=n,
        k=k,
        epochs=recipe.target_length,
        steps=recipe.target_length * len(even_sizes(k, recipe.batch_size)),
        trained=tally.trained,
        scanned=tally.scanned,
        selections=sum(slot.draws for slot in recipe.timetable(n)),
        moves=0,
        parameters=parameters,
        kept_weights=parameters,
        flops_by_purpose=tally.flops,
    )
