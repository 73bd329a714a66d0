import dataclasses

import pytest

from sartor.errors import ConfigError
from sartor.recipes.active import Active
from sartor.recipes.arms import make_arm
from sartor.recipes.drophot import DropHot
from sartor.recipes.families import FAMILIES
from sartor.recipes.family import arm_folder, network_of
from sartor.recipes.prunefuse import PruneFuse
from sartor.recipes.recipe import Recipe
from sartor.recipes.rounds import Rounds
from sartor.recipes.swast import SWaST

ASKING, PRUNING = FAMILIES["prunefuse"], FAMILIES["drophot"]
FUSE = PruneFuse(
    epochs=3, lr=0.05, budgets="10,20", sparsity=0.6, acquisition="entropy", kd_weight=0.5, complement="zeros"
)
HOT = DropHot(epochs=3, score_epochs=2, fraction=0.2, selector="forgetting(keep=lowest)", sparsity=0.6)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_names_its_own_arms(name: str) -> None:
    family = FAMILIES[name]
    assert family.name == name
    assert {*family.default, family.baseline, family.random, *family.needed, *family.finish} <= set(family.arms)
    assert {family.baseline, family.random} <= set(family.default)
    assert {"seed", "noise"} <= set(family.varied)


@pytest.mark.parametrize("arm", ["active", "random", "bald", "alse", "svp(proxy=resnet8)"])
def test_controls_share_what_all_that_ask_for_labels_share(arm: str) -> None:
    recipe = ASKING.make(arm, FUSE, 100)
    assert isinstance(recipe, Active)
    shared = {option.name for option in dataclasses.fields(Rounds)} - {"acquisition"}
    assert {name: getattr(recipe, name) for name in shared} == {name: getattr(FUSE, name) for name in shared}
    plain = arm.partition("(")[0]
    assert recipe.acquisition == (plain if plain in ("random", "bald", "alse") else "entropy")
    assert recipe.proxy == ("resnet8" if plain == "svp" else None)


def test_the_arms_of_the_target_have_the_same_selectors() -> None:
    assert ASKING.make("prunefuse", FUSE, 100) == FUSE
    assert ASKING.make("prunefuse-random", FUSE, 100) == FUSE.with_options(acquisition="random")
    found = {arm: ASKING.make(arm, FUSE, 100) for arm in ("scratch", "kd", "fusion")}
    assert {arm: (recipe.fusion, recipe.kd) for arm, recipe in found.items()} == {
        "scratch": (False, False),
        "kd": (False, True),
        "fusion": (True, False),
    }
    assert {recipe.sparsity for recipe in found.values()} == {0.6}
    assert {arm: (recipe.complement, recipe.kd_weight) for arm, recipe in found.items()} == {
        "scratch": ("random", 0.3),
        "kd": ("random", 0.5),
        "fusion": ("zeros", 0.3),
    }
    synced = ASKING.make("kd", FUSE.with_options(t_sync=1), 100)
    assert (synced.complement, synced.t_sync) == ("zeros", 1), "synchronisation fuses, whatever the target does"


@pytest.mark.parametrize("kd_teacher", ["selector", "ema"])
@pytest.mark.parametrize("targets", ["last", "all"])
@pytest.mark.parametrize(("t_sync", "phase"), [(1, 0), (2, 0), (2, 1), (3, 0)])
def test_arms_keep_a_synchronisation_that_has_a_use_there(
    t_sync: int, phase: int, targets: str, kd_teacher: str
) -> None:
    sync = {"t_sync": t_sync, "sync_phase": phase, "sync_epochs": 2, "sync_lr": 0.01}
    base = FUSE.with_options(budgets="10,20,30,40", targets=targets, kd_teacher=kd_teacher, **sync)
    for arm in ASKING.arms:
        if arm == "svp":
            continue
        made = ASKING.make(arm, base, 100)
        if isinstance(made, PruneFuse):
            kept = {name: getattr(made, name) for name in sync}
            synced = any(now.synced for now in made.outline)
            assert kept == (sync if synced else {name: getattr(PruneFuse, name) for name in sync}), arm
            assert made.complement == ("zeros" if made.fusion or synced else "random")
    alone = ASKING.make("prunefuse-random", FUSE.with_options(budgets="10,20,30,40", t_sync=2), 100)
    assert alone == FUSE.with_options(budgets="10,20,30,40", acquisition="random"), "its last selector is a fresh one"
    scratch = ASKING.make("scratch", FUSE.with_options(t_sync=1), 100)
    assert (scratch.t_sync, scratch.complement) == (0, "random"), "its one selector is the first"


def test_random_labels_need_no_head() -> None:
    headed = FUSE.with_options(head="output")
    found = {arm: ASKING.make(arm, headed, 100).head for arm in ("active", "bald", "random", "prunefuse-random", "kd")}
    assert found == {"active": "output", "bald": "output", "kd": "output", "random": None, "prunefuse-random": None}


def test_the_arms_of_drophot() -> None:
    found = {arm: PRUNING.make(arm, HOT, 100) for arm in PRUNING.arms}
    assert found["drophot"] == HOT
    assert {arm: (recipe.selector, recipe.match, recipe.sparsity) for arm, recipe in found.items()} == {
        "unpruned": ("none", None, 0.0),
        "baseline": ("none", None, 0.6),
        "baseline-matched": ("none", HOT.selector, 0.6),
        "random": ("random", None, 0.6),
        "random-matched": ("random", HOT.selector, 0.6),
        "crest": (f"crest(batch_size={HOT.batch_size})", None, 0.6),
        "drophot": (HOT.selector, None, 0.6),
    }
    assert {found[arm].fraction for arm in ("random", "random-matched", "crest", "baseline-matched")} == {0.2}
    matched = found["baseline-matched"].matched_arm
    assert (matched.selector, matched.fraction, matched.scored) == (HOT.selector, 0.2, 2)


def test_a_pruned_scorer_is_that_of_the_arms_that_are_scored_or_matched() -> None:
    cut = HOT.with_options(score_sparsity=0.5, importance="lamp")
    found = {arm: PRUNING.make(arm, cut, 100) for arm in PRUNING.arms}
    assert {arm for arm, recipe in found.items() if recipe.score_sparsity} == {
        "baseline-matched",
        "random-matched",
        "drophot",
    }
    assert all((recipe.importance == "lamp") == bool(recipe.score_sparsity) for recipe in found.values())
    channels = PRUNING.make("random", cut.with_options(pruning="channels"), 100)
    assert (channels.score_sparsity, channels.importance) == (0.0, "lamp"), "the channels pruned are ranked by it too"


def test_mini_batch_coresets_are_of_the_head_that_was_named() -> None:
    recipe = PRUNING.make("crest", HOT.with_options(head="layers.output"), 100)
    assert isinstance(recipe, DropHot)
    assert recipe.make_sampler().head == "layers.output"
    assert recipe.make_sampler().batch_size == HOT.batch_size


def test_defects_stay_where_they_can_reach() -> None:
    spoilt = HOT.with_options(legacy_defects="scores,batchnorm,masks", record="none")
    found = {arm: PRUNING.make(arm, spoilt, 100).defects for arm in PRUNING.arms}
    assert found["random"] == found["random-matched"] == found["crest"] == {"masks"}
    assert found["baseline"] == found["baseline-matched"] == {"batchnorm", "masks"}
    assert found["unpruned"] == {"batchnorm"}


def test_an_arm_may_name_its_own_network() -> None:
    arm = "bald(model='lenet(width=2, dropout=0.5)', epochs=5)"
    assert ASKING.make(arm, FUSE, 100).epochs == 5
    assert network_of(arm, "cnn") == "lenet(width=2, dropout=0.5)"
    assert network_of("bald", "cnn") == "cnn"
    assert network_of("dense(model=fc)", "cnn") == "fc"
    assert make_arm("dense(model=fc)", SWaST(), 100).name == "dense"
    assert arm_folder(arm) == "bald-model-lenet-width-2-dropout-0.5-epochs-5"
    with pytest.raises(ConfigError, match="it must be a network's name"):
        ASKING.check_arms(["active(model=3)"], FUSE)


@pytest.mark.parametrize(
    ("name", "base", "arm", "message"),
    [
        ("prunefuse", FUSE, "svp", r'arm svp needs proxy; write "svp\(proxy=resnet8\)"'),
        ("prunefuse", FUSE, "activ", "Did you mean 'active'"),
        ("prunefuse", FUSE, "active(sparsity=0.5)", "option of active is 'sparsity'"),
        ("prunefuse", FUSE.with_options(acquisition="random"), "active", "an acquisition that asks a network"),
        ("prunefuse", PruneFuse(kd=False), "active", "a comparison starts from fusion, kd"),
        ("drophot", HOT, "random(match=forgetting)", "option of random is 'match'"),
        ("drophot", DropHot(selector="random"), "random", "a selector that needs a training"),
        ("drophot", DropHot(sparsity=0.0), "random", "from a sparsity"),
        ("swast", SWaST(pruner="none", sparsity=None), "dense", "with a pruner and a selector"),
    ],
)
def test_what_no_comparison_can_be_made_of(name: str, base: Recipe, arm: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FAMILIES[name].check_arms([arm], base)
