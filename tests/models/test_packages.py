"""Networks of timm and torchvision: with packages made up here, and with the real ones where they are installed."""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from sartor.errors import ConfigError
from sartor.models.build import build_model
from sartor.models.packages import _with_classes
from sartor.recipes import SWaST
from sartor.registry import MODELS

HAS_TIMM, HAS_TORCHVISION = (importlib.util.find_spec(name) is not None for name in ("timm", "torchvision"))
REASON = 'needs {}, which is not installed: pip install "sartor[vision]"'
with_timm = pytest.mark.skipif(not (HAS_TIMM and HAS_TORCHVISION), reason=REASON.format("timm"))
with_torchvision = pytest.mark.skipif(not HAS_TORCHVISION, reason=REASON.format("torchvision"))
COLOUR = (3, 32, 32)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A torchvision whose operators do not fit this torch says so; here that is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def build(spec: str, classes: int = 5, shape: tuple[int, ...] = COLOUR) -> nn.Module:
    return build_model(spec, classes=classes, input_shape=shape, seed=0)


class Flat(nn.Module):
    """What the packages made up here build: it remembers what it was asked for."""

    def __init__(self, **asked: object) -> None:
        super().__init__()
        self.asked = asked
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
        self.head = nn.Linear(4, int(asked.get("num_classes", 1000)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A made-up timm with the networks flat and fixed."""
    module = types.ModuleType("timm")
    module.list_models = lambda: ["flat", "fixed", "hungry"]
    module.is_model = lambda name: name.partition(".")[0] in module.list_models()

    def create_model(name: str, pretrained: bool, **options: object) -> Flat:
        if pretrained:
            raise OSError("no network\nand a long story")
        if "drop_rat" in options:
            raise TypeError("unexpected keyword argument 'drop_rat'")
        if name == "hungry":
            raise AssertionError
        model = Flat(pretrained=pretrained, **options)
        if name == "fixed":
            model.pretrained_cfg = {"fixed_input_size": True, "input_size": (3, 224, 224)}
        return model

    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A made-up torchvision with the networks flat and googlenet."""
    package, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    package.models = models

    def get_model(name: str, weights: str | None, **options: object) -> Flat:
        if weights == "NEW":
            raise OSError("no route to host")
        return Flat(weights=weights, **options)

    models.list_models = lambda module: ["flat", "googlenet"] if module is models else []
    models.get_model_weights = lambda name: types.SimpleNamespace(__members__={"OLD": 1, "NEW": 2})
    models.get_model = get_model
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return package


def test_timm_is_asked_for_the_datas_classes_and_channels(timm) -> None:
    assert build("timm:flat").asked == {"pretrained": False, "num_classes": 5}
    assert build("timm:flat(drop_rate=0.1)", 7, (1, 8, 8)).asked == {
        "pretrained": False, "num_classes": 7, "in_chans": 1, "drop_rate": 0.1,
    }  # fmt: skip
    assert build("timm:flat.some_tag").asked["pretrained"] is False
    assert build("timm:fixed(img_size=32)").asked["img_size"] == 32
    assert build("timm:fixed", shape=(3, 224, 224)).asked["num_classes"] == 5


def test_torchvision_is_asked_for_the_datas_classes(torchvision) -> None:
    assert build("torchvision:flat(dropout=0.5)").asked == {"weights": None, "num_classes": 5, "dropout": 0.5}
    assert build("torchvision:googlenet").asked["aux_logits"] is False
    pretrained = build("torchvision:flat(weights=OLD)")
    assert pretrained.asked == {"weights": "OLD"}
    assert pretrained(torch.zeros(2, *COLOUR)).shape == (2, 5)
    assert build("torchvision:flat(weights=DEFAULT)", 1000).asked == {"weights": "DEFAULT"}


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("timm:falt", COLOUR, r"timm has no network 'falt' among the 3.*Did you mean 'flat'"),
        ("timm:flat(drop_rat=0.1)", COLOUR, r"timm:flat.*unexpected keyword argument 'drop_rat'"),
        ("timm:flat(num_classes=3)", COLOUR, "num_classes of timm:flat follows from the data"),
        ("timm:flat(in_chans=3)", COLOUR, "in_chans of timm:flat follows from the data"),
        ("timm:flat(pretrained=yes)", COLOUR, "pretrained of model 'timm:flat' is 'yes'; it must be true or false"),
        ("timm:flat(pretrained=True)", COLOUR, r"weights of timm:flat cannot be had \(no network\); connect"),
        ("timm:hungry", COLOUR, r"timm:hungry cannot be made for these data and options \(AssertionError\)"),
        ("timm:fixed", COLOUR, r"takes images of 224 x 224, the data are 32 x 32; write timm:fixed\(img_size=32\)"),
        ("timm:fixed", (3, 8, 9), r"write timm:fixed\(img_size=\(8, 9\)\)"),
        ("timm:flat", (7,), "timm:flat is asked to take samples of shape"),
        ("timm:", COLOUR, "timm has no network ''"),
        ("torchvision:flat", (1, 8, 8), "torchvision:flat takes images of 3 channels, the data have 1"),
        ("torchvision:falt", COLOUR, "torchvision has no network 'falt' among the 2.*Did you mean 'flat'"),
        ("torchvision:flat(weights=OLDER)", COLOUR, "weights of torchvision:flat is 'OLDER'.*Did you mean 'OLD'"),
        ("torchvision:flat(weights=NEW)", COLOUR, r"cannot be had \(no route to host\); connect"),
    ],
)
def test_what_they_refuse(timm, torchvision, spec: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        build(spec, shape=shape)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_what_is_not_installed_is_said_with_the_command_that_installs_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf'{package} is not installed; .*pip install "sartor\[vision\]"'):
        build(f"{package}:resnet18")


def test_what_is_broken_or_lacks_something_is_told_from_what_is_missing(torchvision, monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    (tmp_path / "timm.py").write_text("import huggingface_hub_that_is_not_there\n")
    with pytest.raises(ConfigError, match="timm lacks huggingface_hub_that_is_not_there; install both"):
        build("timm:resnet18")
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator is not there')\n")
    importlib.invalidate_caches()
    sys.modules.pop("timm", None)
    with pytest.raises(ConfigError, match=r"timm cannot be imported \(operator is not there\)"):
        build("timm:resnet18")


@pytest.mark.parametrize("last", [nn.Linear(6, 1000, bias=False), nn.Conv2d(6, 1000, 1)], ids=["linear", "conv"])
def test_the_last_layer_is_made_anew_for_other_classes(last: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Sequential(nn.Identity(), last))
    assert _with_classes("spec", model, 1000)[1][1] is last
    new = _with_classes("spec", model, 4)[1][1]
    assert type(new) is type(last)
    assert new.weight.shape[:2] == (4, 6)
    assert (new.bias is None) == (last.bias is None)


def test_a_network_that_ends_otherwise_keeps_its_classes() -> None:
    with pytest.raises(ConfigError, match="ends in '0', which is no classifier"):
        _with_classes("spec", nn.Sequential(nn.Conv2d(3, 6, 3)), 4)


def test_prefixes_are_told() -> None:
    assert {"timm:NAME", "torchvision:NAME"} <= set(MODELS.families)
    assert MODELS.describe("timm:resnet18").startswith("Any network of the timm package")
    assert MODELS.options("timm:resnet18")["pretrained"] is False


@with_timm
@pytest.mark.parametrize(
    "spec", ["test_resnet(drop_rate=0.1)", "vit_tiny_patch16_224(img_size=8, patch_size=4, depth=1)"]
)
def test_timm_networks_train_under_swast(spec: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(60, 1, 8, 8, generator=generator), torch.arange(60) % 3
    model = build(f"timm:{spec}", 3, (1, 8, 8))
    recipe = SWaST(epochs=2, batch_size=20, fraction=0.5, every=1, selector="gradmatch", sparsity=0.5, probe=0)
    result = recipe.fit(model, (images, labels))
    assert min(result.results["density_by_layer"].values()) == pytest.approx(0.1, abs=0.05), "the classifier, cut"


@with_timm
def test_timm_says_what_it_does_not_know_and_where_weights_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'resnet18'"):
        build("timm:resnt18")
    with pytest.raises(ConfigError, match=r"takes images of 224 x 224, the data are 32 x 32"):
        build("timm:vit_tiny_patch16_224")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"weights of timm:resnet18 cannot be had"):
        build("timm:resnet18(pretrained=True)")


@with_torchvision
@pytest.mark.parametrize(("depth", "size"), [(18, 32), (34, 33), (50, 40), (101, 32)])
def test_our_networks_are_torchvisions(depth: int, size: int) -> None:
    theirs = build(f"torchvision:resnet{depth}", 1000, (3, size, size)).eval()
    ours = build(f"resnet{depth}(stem=imagenet)", 1000, (3, size, size)).eval()
    state = {_ours(name): value for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state)  # names and shapes of all, so counts too
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def _ours(name: str) -> str:
    return name.replace("downsample", "shortcut").replace("layer", "stage").replace("fc.", "classifier.")


@with_torchvision
def test_torchvisions_networks_train_and_only_its_classifiers_are_offered() -> None:
    model = build("torchvision:googlenet", 3, (3, 64, 64)).train()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3), "one head, also while training"
    with pytest.raises(ConfigError, match="no network 'fasterrcnn_resnet50_fpn'"):
        build("torchvision:fasterrcnn_resnet50_fpn")
    with pytest.raises(ConfigError, match="weights of torchvision:resnet18 is 'IMAGENET'"):
        build("torchvision:resnet18(weights=IMAGENET)")
