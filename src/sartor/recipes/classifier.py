"""The classifier of a network, which SWaST prunes apart: whether there is one, and which it is."""

from __future__ import annotations

from torch import nn

from sartor.data.pool import Pool
from sartor.errors import PruningError, SelectionError
from sartor.head import HeadTap
from sartor.prune.scope import prunable
from sartor.scanning import forward
from sartor.undisturbed import undisturbed


def check_classifier(model: nn.Module, pool: Pool, *, head: str | None, variant: str) -> None:
    """Raise PruningError unless a variant that prunes the classifier apart knows what that is in this model.

    It is the module called `head`, with its weights, or else the last Linear in registration order. That one has to
    make the logits, or at least as many numbers as there are logits: a scale or a norm may follow it.
    """
    options = (
        "prune all layers alike with --variant whole, or give the pruner scopes of its own, such as "
        "--pruner \"rigl(sparsity={'all': 0.7})\"."
    )
    modules = dict(model.named_modules())
    if head is not None:
        if head in modules and not prunable(modules[head]):
            kind = type(modules[head]).__name__
            raise PruningError(
                f"variant {variant} prunes the classifier apart, but head {head!r} is a {kind} without a weight of a "
                f"Linear or a convolution; {options}"
            )
        return
    made, found = _maker(model, pool)
    linears = [(name, module) for name, module in modules.items() if isinstance(module, nn.Linear)]
    last, outputs = (linears[-1][0], linears[-1][1].out_features) if linears else (None, 0)
    if found not in (None, last):
        raise PruningError(
            f"variant {variant} takes the last Linear, {last!r}, for the classifier, but {found!r} makes the logits; "
            f"say --head {found}."
        )
    if found is None and outputs != made:
        which = f"the last one, {last!r}, makes {outputs} numbers for {made} logits" if linears else "there is none"
        raise PruningError(
            f"variant {variant} prunes the classifier apart, but no Linear makes the logits ({which}); "
            f"name the classifier with --head NAME, {options}"
        )
    if variant == "cut" and len(prunable(model)) == 1:
        raise PruningError(
            "variant cut prunes the classifier and what comes before it apart, but the network has only one layer that "
            "can be pruned; use --variant whole or trim."
        )


def _maker(model: nn.Module, pool: Pool) -> tuple[int, str | None]:
    """Return the number of logits of one sample, and the Linear whose output they are, if any."""
    device = next((p.device for p in model.parameters()), None)
    tap = HeadTap(model, None)
    try:
        with undisturbed(model):
            logits = forward(model, pool.gather(pool.rows[:1], device=device))
        tap.take(logits)
    except SelectionError:
        return logits.shape[1], None
    finally:
        tap.remove()
    return logits.shape[1], tap.name
