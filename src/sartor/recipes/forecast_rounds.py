"""What a recipe that asks for labels will cost: the same agenda as its program, no training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sartor.data.loader import even_sizes
from sartor.data.pool import Pool
from sartor.recipes.forecast import Choosing, Forecast, Price, Tally, selector_arithmetic
from sartor.recipes.masking import PURPOSE as SCORING
from sartor.recipes.round_plan import Planned, Prices, Round
from sartor.recipes.rounds import Rounds
from sartor.recipes.supplies import looks_of
from sartor.teacher import PURPOSE


@dataclass
class Adding:
    """Adds up what a recipe plans, round by round."""

    recipe: Rounds
    n: int
    held: int
    tally: Tally

    def train(self, now: Round, planned: Planned) -> None:
        """Add a training, what its channels were chosen by, and its teacher's passes."""
        passed, flops = planned.scored
        self.tally.charge(SCORING, flops, trained=passed)
        samples = now.size * planned.epochs
        self.tally.charge(planned.purpose, 3 * samples * planned.forward, trained=samples)
        if planned.taught:
            self.tally.charge(PURPOSE, samples * planned.taught, scanned=samples)
        if planned.looked:
            self.tally.charge("fuse", now.size * planned.forward, scanned=now.size)

    def ask(self, now: Round, planned: Planned) -> None:
        """Add what the acquisition looks at after a training."""
        left = self.n - now.size
        selector = self.recipe.make_selector()
        looks = looks_of(selector, left, held=self.held, labelled=now.size, done=planned.epochs)
        price = Price(planned.forward, 3 * planned.forward, 3 * planned.forward)
        self.tally.charge_looks(looks, price, [left * planned.forward] * looks.earlier, left)


@dataclass(frozen=True)
class Networks:
    """What the networks of a recipe cost, however long they are trained; `parameters` are the target's."""

    prices: Prices
    choosing: Choosing
    parameters: int

    @classmethod
    def of(cls, recipe: Rounds, model: nn.Module, pool: Pool) -> Networks:
        """Count them, with some samples of a pool."""
        choosing = selector_arithmetic(recipe, recipe.selector_network(model, pool), pool)
        return cls(recipe.prices(model, pool), choosing, sum(parameter.numel() for parameter in model.parameters()))


def forecast_rounds(recipe: Rounds, networks: Networks, n: int, held: int) -> Forecast:
    """Add up what a recipe does on a pool of n samples and `held` held-out ones.

    Equals the ledger of the run, if the channels that leave are as many in each draw as in this network.
    """
    adding, last = Adding(recipe, n, held, Tally()), None
    agenda = recipe.agenda(n)
    for now in agenda:
        for planned in recipe.planned(now, networks.prices):
            adding.train(now, planned)
            if planned.asks:
                adding.ask(now, planned)
                adding.tally.charge("select", networks.choosing(n - now.size, now.asked))
            last = planned
    assert last is not None
    tally = adding.tally
    return Forecast(
        n=n,
        k=agenda[-1].size,
        epochs=last.epochs,
        steps=last.epochs * len(even_sizes(agenda[-1].size, recipe.batch_size)),
        trained=tally.trained,
        scanned=tally.scanned,
        selections=sum(now.asked > 0 for now in agenda),
        moves=0,
        parameters=networks.parameters,
        kept_weights=networks.parameters,
        flops_by_purpose=tally.flops,
    )
