from pathlib import Path

import pytest
from made_up_runs import write_comparison

from sartor.report.collect import collect
from sartor.report.table import tabulate
from sartor.report.verdict import Verdict, judge

BASE = (0.970, 0.975, 0.980)


def verdict_of(folder: Path, arms: dict[str, tuple[float, ...]], **options: object) -> Verdict:
    plain = [arm for arm in arms if "@" not in arm]
    at_cost = [arm.partition("@")[0] for arm in arms if "@" in arm]
    given = {"arms": plain, "at_cost": at_cost, "seeds": range(len(BASE)), "noises": (0.2,), "accuracies": arms}
    return judge(tabulate(collect([write_comparison(folder, **(given | options))])))  # type: ignore[arg-type]


def plus(*shifts: float) -> tuple[float, ...]:
    return tuple(base + shift for base, shift in zip(BASE, shifts))


BETTER, WORSE, UNCLEAR = plus(0.010, 0.011, 0.012), plus(-0.010, -0.011, -0.012), plus(0.004, -0.005, 0.004)


@pytest.mark.parametrize(
    ("cut", "headline", "claim"),
    [
        (BETTER, "Joint training beats coreset-only.", "swast-cut beats coreset-only (+1.1 pp"),
        (
            WORSE,
            "Joint training does not beat coreset-only: it is worse.",
            "swast-cut does not beat coreset-only, it is worse (−1.1 pp, interval −1.3 to −0.9)",
        ),
        (
            UNCLEAR,
            "Joint training does not beat coreset-only: no difference could be shown.",
            "swast-cut does not beat coreset-only: no difference could be shown (+0.1 pp, interval −1.2 to +1.4)",
        ),
    ],
)
def test_each_outcome_is_said_plainly(tmp_path: Path, cut: tuple[float, ...], headline: str, claim: str) -> None:
    verdict = verdict_of(tmp_path, {"coreset-only": BASE, "swast-cut": cut})
    assert verdict.headline == headline
    ((title, findings),) = verdict.sections
    assert title == "digits, cnn, 20 % of the labels made wrong (3 seeds)"
    assert findings[0].text.startswith(claim)


@pytest.mark.parametrize(
    ("trim", "cut", "headline"),
    [
        (WORSE, UNCLEAR, "does not beat coreset-only: of 2 comparisons, it is worse in 1 and no difference"),
        (BETTER, WORSE, "beats coreset-only in 1 of 2 comparisons; it is worse in 1."),
        (BETTER, BETTER, "beats coreset-only in all of 2 comparisons."),
        (UNCLEAR, UNCLEAR, "does not beat coreset-only: no difference could be shown in any of 2 comparisons."),
    ],
)
def test_the_headline_counts(tmp_path: Path, trim: tuple[float, ...], cut: tuple[float, ...], headline: str) -> None:
    verdict = verdict_of(tmp_path, {"coreset-only": BASE, "swast-trim": trim, "swast-cut": cut})
    assert headline in verdict.headline


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    arms = {"coreset-only": BASE, "swast-cut": BETTER}
    verdict = verdict_of(tmp_path, arms, seeds=(0,))
    assert verdict.headline == (
        "Nothing is shown about joint training against coreset-only: a single seed gives no interval."
    )
    assert "one seed, which shows nothing" in verdict.sections[0][1][0].text
    assert "nan" not in str(verdict)


def test_without_a_joint_arm_nothing_is_claimed(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, {"coreset-only": BASE, "dense": WORSE})
    assert verdict.headline.startswith("Nothing can be said about joint training")
    assert any(
        finding.text.startswith("coreset-only is better than dense (+1.1 pp") for finding in verdict.sections[0][1]
    )


def test_controls_are_sorted_by_outcome(tmp_path: Path) -> None:
    arms = {"dense": WORSE, "dense-steps": BETTER, "redrawn": UNCLEAR, "coreset-only": BASE, "swast-cut": BASE}
    text = str(verdict_of(tmp_path, arms))
    assert "swast-cut is better than dense (+1.1 pp, +0.9 to +1.3) and worse than dense-steps (−1.1 pp" in text
    assert "; no difference to redrawn (−0.1 pp, −1.4 to +1.2) could be shown." in text


def test_where_the_gain_over_dense_comes_from(tmp_path: Path) -> None:
    low = plus(-0.100, -0.101, -0.102)
    arms = {"dense": low, "dense-steps": plus(-0.04, -0.04, -0.041), "coreset-only": BASE, "swast-cut": UNCLEAR}
    text = str(verdict_of(tmp_path / "a", arms))
    assert "The gain over dense is there without pruning: coreset-only has +10.1 pp over dense." in text
    assert "Shorter training alone, on all samples, gives +6.1 pp over dense" in text
    text = str(verdict_of(tmp_path / "b", arms | {"swast-cut": BETTER, "dense-steps": low}))
    assert "without pruning" not in text
    assert "Shorter training" not in text


def test_wrong_labels_are_said_only_where_there_are_some(tmp_path: Path) -> None:
    arms = {"redrawn": WORSE, "coreset-only": BASE, "swast-cut": BASE}
    text = str(verdict_of(tmp_path / "a", arms))
    assert (
        "Wrong labels in the last coreset: 0.1 % in swast-cut, 0.2 % in coreset-only and 20.0 % in redrawn; "
        "in all training data 20.0 %." in text
    )
    assert "Wrong labels" not in str(verdict_of(tmp_path / "b", arms, noises=(0.0,)))


def test_costs_include_selection(tmp_path: Path) -> None:
    text = str(verdict_of(tmp_path / "a", {"dense": WORSE, "coreset-only": BASE, "swast-cut": BASE}))
    assert "As shares of dense, in FLOPs and in seconds: swast-cut 15 %" in text
    assert "Choosing samples is part of these FLOPs: 19 % in swast-cut and 19 % in coreset-only." in text
    text = str(verdict_of(tmp_path / "b", {"coreset-only": BASE, "swast-cut": BASE}))
    assert "FLOPs and seconds: swast-cut 24.4 GFLOP and 1." in text


def test_equal_cost_has_its_own_finding(tmp_path: Path) -> None:
    arms = {"coreset-only": BASE, "swast-cut": UNCLEAR, "coreset-only@cost": WORSE, "dense@cost": UNCLEAR}
    verdict = verdict_of(tmp_path, arms)
    assert verdict.headline.endswith(" At equal cost, no difference could be shown in 1 of 1.")
    found = [finding.text for finding in verdict.sections[0][1] if finding.topic == "At equal cost"]
    assert len(found) == 1
    assert found[0].startswith("With all at the cost of swast-cut: ")
    assert "dense (0.0 pp" in found[0]
    better = verdict_of(tmp_path / "b", {**arms, "swast-cut": BETTER})
    assert better.headline.endswith("At equal cost, it is better in 1 of 1.")


def test_how_to_read_it_is_always_said(tmp_path: Path) -> None:
    reading = " ".join(verdict_of(tmp_path, {"coreset-only": BASE, "swast-cut": BASE}).reading)
    assert "95 % t-intervals over 3 seeds" in reading
    assert "paired by seed" in reading
    assert "no difference could be shown, not that there is none" in reading
    assert "theoretical" in reading


def test_a_difference_over_fewer_seeds_says_so(tmp_path: Path) -> None:
    folder = write_comparison(
        tmp_path,
        arms=("dense", "coreset-only", "swast-cut"),
        seeds=range(3),
        noises=(0.0,),
        accuracies={"dense": WORSE, "coreset-only": BASE, "swast-cut": BASE},
    )
    (folder / "noise-0" / "dense" / "seed-2" / "results.json").unlink()
    verdict = judge(tabulate(collect([folder])))
    assert "2 to 3 seeds" in verdict.sections[0][0]
    assert "n = 2" in str(verdict)
