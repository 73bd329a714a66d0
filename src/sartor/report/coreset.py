"""The page of one coreset: what was chosen, from where along the score, in which classes; and how it looks."""

from __future__ import annotations

import html
import inspect
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from sartor.files import to_json, write_atomic
from sartor.recipes.choosing import Choice
from sartor.report.classes import Lens, class_table
from sartor.report.histogram import by_rank, distribution
from sartor.report.wording import brief_percent, flops, percent, seconds
from sartor.select.coreset_file import KIND, as_csv, pool_digest

MARK = "<title>Sartor coreset</title>"
FORMAT = 1


def write_choice(choice: Choice, out: Path, page: Path, *, commands: dict[str, str]) -> None:
    """Write the csv file, the JSON beside it, and the page. `commands`: what to do with it, and the command for that.

    Raises: SartorError: where one cannot be written; each file is whole or as it was.
    """
    places = torch.searchsorted(choice.rows, choice.subset.rows)
    ids = [choice.source.ids[place] for place in places.tolist()]
    scores, labels = (None if table is None else table[places] for table in (choice.scores, choice.targets))
    described = to_json(as_json(choice, commands))
    looks = render(choice, commands)
    write_atomic(out, as_csv(choice.subset, ids, scores, labels))
    write_atomic(out.with_suffix(".json"), described)
    write_atomic(page, looks.encode("utf-8", "xmlcharrefreplace"))


def as_json(choice: Choice, commands: dict[str, str]) -> dict[str, object]:
    """Return what the csv cannot hold, as plain values."""
    weights, n, k = choice.subset.weights, len(choice.rows), len(choice.subset)
    classes: dict[str, object] | None = None
    if choice.targets is not None:
        names = choice.source.class_names
        counts = [torch.bincount(part).tolist() for part in (choice.targets, choice.targets[choice.chosen])]
        classes = {"names": None if names is None else list(names), "all": counts[0], "chosen": counts[1]}
    wrong = choice.wrong
    noise = None if wrong is None else {"all": share(wrong), "chosen": share(wrong[choice.chosen])}
    return {
        "format": FORMAT,
        "kind": KIND,
        "selector": choice.spec,
        "options": choice.options,
        "seed": choice.seed,
        "k": k,
        "n": n,
        "fraction": k / n,
        "weights": {
            "least": float(weights.min()),
            "largest": float(weights.max()),
            "effective": choice.effective,
            "scale": choice.subset.scale,
        },
        "source": dict(choice.source.described),
        "classes": classes,
        "noise_ratio": noise,
        "costs": choice.ledger.to_json(),
        "commands": commands,
        "pool": pool_digest(choice.rows),
    }


def share(marked: Tensor) -> float:
    """Return the share of samples that are marked."""
    return float(marked.double().mean())


def render(choice: Choice, commands: dict[str, str]) -> str:
    """Return the whole page as text; nothing in it is loaded from elsewhere."""
    sheets = (
        resources.files("sartor.report").joinpath(name).read_text("utf-8") for name in ("page.css", "coreset.css")
    )
    lens = lens_of(choice)
    parts = [
        '<p class="brand">Sartor coreset</p>',
        f"<h1>{html.escape(headline(choice))}</h1>",
        f'<p class="lead">{html.escape(" · ".join(lead(choice)))}</p>',
        facts(choice),
        score_section(choice, lens),
        class_table(choice, lens),
        origin(choice),
        *(
            f'<h3 class="command">{html.escape(name)}</h3><pre>{html.escape(line)}</pre>'
            for name, line in commands.items()
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{MARK}<style>{''.join(sheets)}</style></head>\n<body><main>{chr(10).join(filter(None, parts))}</main></body>"
        "</html>\n"
    )


def lens_of(choice: Choice) -> Lens | None:
    """Return what the page orders samples by: the selector's score, or else the network's loss; None without either."""
    if choice.scores is not None:
        return Lens("score", choice.scores, True)
    return None if choice.losses is None else Lens("loss", choice.losses, False)


def headline(choice: Choice) -> str:
    """Say what was chosen from what."""
    data = choice.source.described.get("data") or choice.source.described.get("embeddings")
    return f"{choice.spec} chose {len(choice.subset):,} of {counted_with_commas(len(choice.rows))} of {data}"


def counted_with_commas(number: int) -> str:
    """Write a number of samples."""
    return f"{number:,} sample" + ("" if number == 1 else "s")


def lead(choice: Choice) -> list[str]:
    """Say in a line what the choice rests on."""
    told = choice.source.described
    found = [f"seed {choice.seed}"]
    if "run" in told:
        found.append(f"by the network of {told['run']}, {told['model']}")
        if told.get("test_accuracy") is not None:
            found.append(f"{100 * told['test_accuracy']:.1f} % of the test set right")
    elif "weights" in told:
        found.append(f"by {told['model']} with {told['weights']}")
    return found


def facts(choice: Choice) -> str:
    """Write the numbers that matter as tiles."""
    n, k, weights = len(choice.rows), len(choice.subset), choice.subset.weights
    low, high = float(weights.min()), float(weights.max())
    even = high - low < 1e-6
    tiles = [
        ("coreset", f"{k:,}", f"{percent(k / n)} of {n:,} samples"),
        ("weights", "all 1" if even else f"{low:.2g} to {high:.3g}", worth(choice, even)),
    ]
    if choice.wrong is not None:
        ratios = [brief_percent(share(part)) for part in (choice.wrong[choice.chosen], choice.wrong)]
        tiles.append(("wrong labels", ratios[0], f"of the chosen, {ratios[1]} of all samples"))
    costs = choice.ledger.by_purpose()
    verbs = [(costs[name]["flops"], verb) for name, verb in (("scan", "look"), ("select", "choose"))]
    spent = ", ".join(f"{flops(count)} to {verb}" for count, verb in verbs if count)
    tiles.append(("cost", seconds(choice.ledger.seconds()), spent or "nothing was computed"))
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd><dd>{html.escape(text)}</dd></div>"
        for name, value, text in tiles
    )
    return f'<dl class="facts">{cells}</dl>'


def worth(choice: Choice, even: bool) -> str:
    """Say how unequal weights are."""
    return "every sample counts alike" if even else f"mean 1; worth {choice.effective:,.0f} equal ones"


def score_section(choice: Choice, lens: Lens | None) -> str:
    """Write the two distributions: over the values, and over the ranks."""
    if lens is None:
        return ""
    svg, rooted, beyond = distribution(lens.values, choice.chosen, lens.ends, lens.name)
    notes = ["Heights are square roots of counts, for one bin outgrows the others."] if rooted else []
    if beyond:
        notes.append(f"The end bars hold {beyond:,} samples that lie beyond them.")
    cards = [
        (f"Where along the {lens.name}", svg, " ".join(["Bars are all samples, the marked part the coreset.", *notes])),
        (
            "From which end",
            by_rank(lens.values, choice.chosen, lens.name),
            f"Samples in {min(50, len(choice.rows))} equal groups from lowest to highest {lens.name}: how much of each "
            "was chosen. The dashed line is the share chosen of all, where a random choice lies.",
        ),
    ]
    figures = "".join(
        f'<figure class="card"><h3>{title}</h3>{image}<figcaption>{html.escape(text)}</figcaption></figure>'
        for title, image, text in cards
    )
    legend = '<p class="legend"><span><i class="mine"></i>chosen</span><span><i></i>all samples</span></p>'
    about = html.escape(meaning(choice, lens))
    return f'<h2>{lens.title}</h2><p class="small">{about}</p>{legend}<div class="figures">{figures}</div>'


def meaning(choice: Choice, lens: Lens) -> str:
    """Say what the values are, in the words of the selector where it has any."""
    if not lens.ranks:
        return (
            "The selector ranks by no single number; samples are shown by the network's cross-entropy on their label."
        )
    text = inspect.getdoc(getattr(type(choice.selector), "scores", None)) or ""
    return " ".join(text.split("\n\n")[0].split()).removeprefix("Return ").capitalize() or "What the selector ranks by."


def origin(choice: Choice) -> str:
    """Write the selector's options and all that is known of the source."""
    told: list[tuple[str, object]] = [("selector", choice.spec)]
    told += [(name.replace("_", " "), value) for name, value in choice.options.items()]
    told += [(name.replace("_", " "), value) for name, value in choice.source.described.items() if value is not None]
    for purpose, costs in choice.ledger.by_purpose().items():
        looked = f", {counted_with_commas(int(costs['forward']))} looked at" if costs["forward"] else ""
        told.append((f"cost of {purpose}", f"{seconds(costs['seconds'])}, {flops(costs['flops'])}{looked}"))
    lines = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>" for name, value in told)
    return f'<h2>How it was made</h2><dl class="origin">{lines}</dl>'
