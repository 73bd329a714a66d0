import itertools
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import results, write_comparison, write_run

from sartor.errors import SartorError
from sartor.report.arms import arm_styles
from sartor.report.collect import collect
from sartor.report.curves import curve
from sartor.report.figures import PANELS, Drawing, draw_figures
from sartor.report.labels import spread
from sartor.report.panels import INK
from sartor.report.table import tabulate

ARMS = ("dense", "redrawn", "coreset-only", "prune-only", "swast-cut")


def drawings_of(folder: Path, out: Path) -> list[Drawing]:
    blocks = tabulate(collect([folder]))
    styles = arm_styles(sorted({row.arm for block in blocks for row in block.rows}))
    return [drawing for found in draw_figures(blocks, styles, out).values() for drawing in found]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Drawing], Path]:
    folder = tmp_path_factory.mktemp("figures")
    write_comparison(folder / "c", arms=ARMS, seeds=(0, 1), noises=(0.2,), at_cost=("coreset-only",))
    return drawings_of(folder / "c", folder / "figures"), folder / "figures"


def test_every_figure_is_drawn_and_written(drawn: tuple[list[Drawing], Path]) -> None:
    drawings, folder = drawn
    names = [f"digits-cnn-noise-0.2-{panel.name}" for panel in PANELS]
    assert [drawing.name for drawing in drawings] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.svg" for name in names)


def test_figures_are_sound_svg_on_no_background(drawn: tuple[list[Drawing], Path]) -> None:
    drawings, folder = drawn
    for path in folder.iterdir():
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        background = root.find(".//*[@id='patch_1']/*")
        assert (
            background is None
            or "fill: none" in background.attrib["style"]
            or "opacity: 0" in background.attrib["style"]
        )
    for drawing in drawings:
        ElementTree.fromstring(drawing.svg)


def test_page_twins_take_the_pages_ink_and_share_no_ids(drawn: tuple[list[Drawing], Path]) -> None:
    seen: set[str] = set()
    for drawing in drawn[0]:
        assert INK not in drawing.svg.replace(f"var(--figure-ink, {INK})", "")
        assert "*{" not in drawing.svg.replace(".figures svg *{", "")
        ids = set(re.findall(r'\bid="([^"]+)"', drawing.svg))
        assert not ids & seen
        seen |= ids
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.svg)) <= ids


def test_an_arm_has_one_colour_in_all_curves(drawn: tuple[list[Drawing], Path]) -> None:
    styles = arm_styles(ARMS)
    by_name = {drawing.name.removeprefix("digits-cnn-noise-0.2-"): drawing.svg for drawing in drawn[0]}
    for name in ("learning-curves", "accuracy-against-cost", "overfitting-gap"):
        for arm in ARMS:
            assert styles[arm].colour in by_name[name]
            assert f">{arm}</text>" in by_name[name]
    assert ">coreset-only@cost</text>" in by_name["accuracy-against-cost"]


def test_figures_without_data_are_left_out(tmp_path: Path) -> None:
    result = results("dense", 0, 0.0, density_by_layer={}, flops_by_purpose={}, seconds_by_purpose={})
    (write_run(tmp_path / "a", result) / "metrics.jsonl").write_text("")
    names = [drawing.name for drawing in drawings_of(tmp_path / "a", tmp_path / "figures")]
    assert names == ["digits-cnn-noise-0-accuracy-against-cost"]


def test_clean_labels_have_no_figure_of_wrong_ones(tmp_path: Path) -> None:
    write_comparison(tmp_path / "c", arms=("coreset-only", "swast-cut"), seeds=(0,), noises=(0.0,))
    names = {drawing.name for drawing in drawings_of(tmp_path / "c", tmp_path / "figures")}
    assert not any("coreset-noise" in name or "wrong-labels" in name for name in names)
    assert len(names) == len(PANELS) - 2


def test_names_are_never_read_as_mathematics(tmp_path: Path) -> None:
    write_run(tmp_path / "a", results("a$b_{$", 0, 0.0))
    drawings = drawings_of(tmp_path / "a", tmp_path / "figures")
    assert any("a$b_{$" in drawing.svg for drawing in drawings)


def test_without_matplotlib_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "a", results("dense", 0, 0.0))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SartorError, match=r'pip install "sartor\[report\]"'):
        drawings_of(tmp_path / "a", tmp_path / "figures")


def test_a_curve_is_the_mean_over_runs(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path / str(seed), results("dense", seed, 0.2))
    runs = collect([tmp_path]).runs
    found = curve(runs, lambda line: line.get("test_accuracy"))
    assert found is not None
    assert found.epochs.tolist() == [float(epoch) for epoch in range(1, 41)]
    last = [run.epochs[-1]["test_accuracy"] for run in runs]
    assert found.mean[-1] == pytest.approx(np.mean(last))
    assert (found.low <= found.mean).all()
    one = curve(runs[:1], lambda line: line.get("test_accuracy"))
    assert one is not None
    assert (one.low == one.mean).all()
    assert curve(runs, lambda line: None) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.2))
def test_spread_labels_keep_order_distance_and_frame(places: list[float], gap: float) -> None:
    moved = spread(places, gap, 0.0, 1.0)
    reachable = min(gap, 1.0 / max(1, len(places) - 1))
    by_place = sorted(zip(places, moved))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)
    ordered = sorted(moved)
    assert all(b - a >= reachable - 1e-9 for a, b in itertools.pairwise(ordered))
    assert all(a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(by_place) if a[0] < b[0])


def test_labels_that_are_apart_stay() -> None:
    assert spread([0.1, 0.9, 0.5], 0.1, 0.0, 1.0) == [0.1, 0.9, 0.5]
