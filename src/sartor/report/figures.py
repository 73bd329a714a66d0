"""Figures as SVG: one file each, and a twin for the page that takes the page's ink and font."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.errors import SartorError
from sartor.files import make_folder, write_atomic
from sartor.report import panels, panels_asking
from sartor.report.arms import ArmStyle
from sartor.report.kinds import KINDS
from sartor.report.panels import INK, View
from sartor.report.table import Block
from sartor.report.wording import seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
    "axes.titlecolor": INK,
}


@dataclass(frozen=True)
class Panel:
    """A kind of figure: its name in file names, its title, what to see in it, and the function that draws it."""

    name: str
    title: str
    caption: Callable[[View], str]
    draw: Callable[[Figure, View], bool]


@dataclass(frozen=True)
class Drawing:
    """A finished figure: SVG text for the page, and the words around it."""

    name: str
    title: str
    caption: str
    svg: str


def draw_figures(blocks: Sequence[Block], styles: dict[str, ArmStyle], folder: Path) -> dict[Block, list[Drawing]]:
    """Draw all figures of every block at equal epochs, and write each one below `folder`.

    Raises: SartorError: when matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise SartorError('figures need matplotlib; install it by pip install "sartor[report]".') from error
    make_folder(folder)
    drawings: dict[Block, list[Drawing]] = {}
    plain = [block for block in blocks if block.match == "epochs"]
    for number, block in enumerate(plain, start=1):
        at_cost = tuple(b for b in blocks if b.setting == block.setting and b.match == "cost")
        twin = [b.setting.slug for b in plain].count(block.setting.slug) > 1
        prefix = f"{block.setting.slug}-{number}" if twin else block.setting.slug
        style: Any = {**STYLE, "svg.hashsalt": prefix}
        with matplotlib.rc_context(style):
            drawings[block] = list(_draw_block(View(block, at_cost, styles), prefix, folder))
    return drawings


def _draw_block(view: View, prefix: str, folder: Path) -> Iterable[Drawing]:
    from matplotlib.figure import Figure

    for panel in PANELS_OF[view.block.setting.kind]:
        figure = Figure(figsize=(5.4, 3.5), layout="constrained")
        if not panel.draw(figure, view):
            continue
        name = f"{prefix}-{panel.name}"
        svg = _svg(figure)
        write_atomic(folder / f"{name}.svg", svg)
        yield Drawing(name, panel.title, panel.caption(view), for_page(svg, name, panel.title))


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def for_page(svg: str, name: str, title: str) -> str:
    """Turn a matplotlib SVG file into an element of the page: own ids and styles, the page's ink, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("*{stroke-line", ".figures svg *{stroke-line")
    svg = svg.replace(INK, f"var(--figure-ink, {INK})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _says(text: str) -> Callable[[View], str]:
    return lambda view: text.format(kind=KINDS[view.block.setting.kind])


def _bubbles(view: View) -> str:
    longest = max(row.seconds for row in view.block.rows)
    hollow = " Hollow bubbles, named @cost, were given the cost of a joint arm." if view.at_cost else ""
    return (
        "Up and to the left is better. A bubble's area is the seconds of a run (largest: "
        f"{seconds(longest)}), its bar the 95 % interval of the accuracy.{hollow} "
        "Compare horizontal gaps with bubble sizes: FLOPs saved by masks save no time on dense kernels."
    )


PANELS = (
    Panel(
        "differences",
        "Differences to the other arms",
        _says(
            "Each mark is the accuracy of a {kind.arm} minus that of the arm named at the left, paired by seed, with "
            "its 95 % interval. Right of the line, {kind.subject} is better; a bar across the line shows no difference."
        ),
        panels.differences,
    ),
    Panel("accuracy-against-cost", "Accuracy against cost", _bubbles, panels.accuracy_against_cost),
    Panel(
        "learning-curves",
        "Learning curves",
        _says(
            "Test accuracy after each epoch: mean over seeds, shaded 95 % interval for {kind.arm}s and "
            "the baseline. A fall late in training is the network "
            "learning wrong labels by heart. An epoch of a coreset arm has fewer steps than one on all samples."
        ),
        panels.learning_curves,
    ),
    Panel(
        "coreset-noise",
        "Wrong labels in the coreset",
        _says(
            "Share of samples with a wrong label in every coreset that was chosen; the dashed grey line is the share "
            "in all training data, where a random choice lies. Below it, the selector filters wrong labels out."
        ),
        panels.coreset_noise,
    ),
    Panel(
        "overfitting-gap",
        "Gap between test and validation",
        _says(
            "Test loss minus validation loss. Near 0, the held-out samples tell the truth about the test set; "
            "what matters is whether arms differ by more than their shaded intervals."
        ),
        panels.overfitting_gap,
    ),
    Panel(
        "loss-of-wrong-labels",
        "Loss of right and wrong labels",
        _says(
            "Mean loss on a fixed random sample of the training data, against the labels as given. A loss that stays "
            "high on wrong labels means that they are not learned by heart; mind the two scales."
        ),
        panels.loss_of_wrong_labels,
    ),
    Panel(
        "density-by-layer",
        "Weights kept in each layer",
        _says(
            "Share of weights that the pruner kept at the end, layer by layer from input to output, mean over seeds."
        ),
        panels.density_by_layer,
    ),
    Panel(
        "costs-by-phase",
        "What each arm cost",
        _says(
            "Mean cost of a run by what it was spent on; evaluation that only watches is left out. FLOPs of pruned "
            "weights are not counted (theoretical), seconds are as measured."
        ),
        panels.costs_by_phase,
    ),
)

ASKING_PANELS = (
    Panel(
        "accuracy-over-labels",
        "Accuracy over labels",
        _says(
            "Test accuracy of the targets, in their last epoch, over the labels that they were trained on: mean over "
            "seeds with its 95 % interval. Whether two arms differ, the paired differences in the table tell better "
            "than two bars that touch."
        ),
        panels_asking.accuracy_over_labels,
    ),
    Panel(
        "accuracy-over-flops",
        "Accuracy over cost",
        _says(
            "The same over the FLOPs of all selectors, choices and targets up to that target, as counted. Up and to "
            "the left is better."
        ),
        panels_asking.accuracy_over_flops,
    ),
    Panel(
        "learning-curves",
        "Learning curves",
        _says(
            "Test accuracy of the last target after each epoch: mean over seeds, 95 % interval shaded for PruneFuse "
            "and the baseline. A target that is fused begins with what its selector had learnt."
        ),
        panels.learning_curves,
    ),
    Panel(
        "costs-by-phase",
        "What each arm cost",
        _says(
            "Mean cost of a whole run: targets (train), selectors, choices (select), teachers (distill) and "
            "synchronisation (sync), whose seconds hold their teachers'. Evaluation that only watches is left out."
        ),
        panels.costs_by_phase,
    ),
)
PANELS_OF = {"joint": PANELS, "asking": ASKING_PANELS, "pruning": PANELS}
"""The figures of each kind of comparison."""
