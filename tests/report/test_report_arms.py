import itertools

import numpy as np
import pytest

from sartor.report.arms import arm_order, arm_styles, is_joint

ARMS = ("dense", "dense-steps", "random", "redrawn", "coreset-only", "prune-only", "swast-trim", "swast-cut")
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SIGHT = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ np.clip(light, 1e-4, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_arms_look_alike(sight: str) -> None:
    seen = {arm: lab(SIGHT[sight] @ linear(style.colour)) for arm, style in arm_styles(ARMS).items()}
    distance = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(ARMS, 2)}
    assert min(distance.values()) > 12, min(distance, key=distance.__getitem__)


def test_every_arm_is_legible_on_light_and_dark() -> None:
    for style in arm_styles(ARMS).values():
        luminance = float(linear(style.colour) @ [0.2126, 0.7152, 0.0722]) + 0.05
        assert 1.05 / luminance > 2.2
        assert luminance / 0.0635 > 3


def test_markers_tell_arms_apart_without_colour() -> None:
    styles = arm_styles(ARMS)
    assert len({style.marker for style in styles.values()}) == len(ARMS)


def test_a_colour_does_not_depend_on_the_other_arms() -> None:
    assert arm_styles(["swast-cut"])["swast-cut"] == arm_styles(ARMS)["swast-cut"]


def test_an_addition_keeps_the_colour_and_is_hollow() -> None:
    styles = arm_styles(["coreset-only", "coreset-only+preserve", "coreset-only+smoothing"])
    assert len({style.colour for style in styles.values()}) == 1
    assert [style.hollow for style in styles.values()] == [False, True, True]
    assert styles["coreset-only+preserve"].text.endswith("with state preservation")
    assert styles["coreset-only+smoothing"].text.endswith("with smoothing")


def test_unknown_arms_get_colours_of_their_own() -> None:
    styles = arm_styles([*ARMS, "fused", "scratch"])
    assert len({style.colour for style in styles.values()}) == len(ARMS) + 2


def test_order_is_the_given_one_then_ours() -> None:
    assert arm_order(["zeta", "swast-cut", "dense+preserve", "dense"]) == [
        "dense",
        "dense+preserve",
        "swast-cut",
        "zeta",
    ]
    assert arm_order(["dense", "swast-cut", "zeta"], ["zeta", "swast-cut"]) == ["zeta", "swast-cut", "dense"]


def test_joint_arms_are_known_by_name() -> None:
    assert is_joint("swast-trim")
    assert not is_joint("prune-only")


def test_options_get_a_colour_of_their_own_and_keep_the_marker() -> None:
    half, plain = arm_styles(["swast-cut(sparsity=0.5)", "swast-cut"]).values()
    assert half.colour != plain.colour
    assert (half.marker, half.hollow) == (plain.marker, False)
    assert half.text == f"{plain.text}, with sparsity=0.5"
    assert arm_styles(["swast-cut"])["swast-cut"] == plain
    styles = arm_styles(["mine", "mine+preserve", "mine(a=1)+x"])
    assert styles["mine"].colour == styles["mine+preserve"].colour
    assert arm_order(["dense", "swast-cut(sparsity=0.5)", "swast-cut", "redrawn(every=5)"]) == [
        "dense", "redrawn(every=5)", "swast-cut", "swast-cut(sparsity=0.5)",
    ]  # fmt: skip
