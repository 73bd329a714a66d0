"""Networks of other packages: `timm:NAME` and `torchvision:NAME`, with their own options in brackets."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sartor.errors import ConfigError, check_choice, nearest
from sartor.models.shapes import image_shape
from sartor.models.torchvision_shim import prepare_torchvision
from sartor.registry import MODELS

_FROM_DATA = ("num_classes", "in_chans", "in_channels")
_TWO_MORE_HEADS = ("googlenet", "inception_v3")


@MODELS.register_prefix("timm")
def timm_model(
    name: str, classes: int, input_shape: tuple[int, ...], *, pretrained: bool = False, **options: Any
) -> nn.Module:
    """Any network of the timm package, options in brackets: timm:resnet18(drop_rate=0.1, pretrained=True).

    It is made for the data's classes and channels. `pretrained` fetches weights over the network.
    Raises: ConfigError: where timm is missing, for an unknown name, for options that it refuses, for images of another
        size than the network takes, for weights that cannot be had.
    """
    spec = f"timm:{name}"
    channels, height, width = image_shape(spec, classes, input_shape)
    _check_options(spec, options)
    timm = _load("timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    if channels != 3:  # so that networks without the option can still be made for colour images
        options["in_chans"] = channels
    with _making(spec, fetching=pretrained):
        model: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes, **options)
    about = getattr(model, "pretrained_cfg", None) or {}
    takes = tuple(about.get("input_size", ()))[1:]
    if about.get("fixed_input_size") and takes != (height, width) and "img_size" not in options:
        size = height if height == width else (height, width)
        raise ConfigError(
            f"{spec} takes images of {' x '.join(map(str, takes))}, the data are {height} x {width}; "
            f"write {spec}(img_size={size}), or name a network for any size."
        )
    return model


@MODELS.register_prefix("torchvision")
def torchvision_model(
    name: str, classes: int, input_shape: tuple[int, ...], *, weights: str | None = None, **options: Any
) -> nn.Module:
    """Any classifier of the torchvision package, options in brackets: torchvision:resnet18(weights=DEFAULT).

    It takes colour images. With `weights`, which are fetched over the network, the head is made anew for the data's
    classes unless there are as many.
    Raises: ConfigError: where torchvision is missing, for an unknown name, for options that it refuses, for images
        that are not in colour, for weights that cannot be had.
    """
    spec = f"torchvision:{name}"
    channels, _, _ = image_shape(spec, classes, input_shape)
    if channels != 3:
        raise ConfigError(
            f"{spec} takes images of 3 channels, the data have {channels}; use timm:NAME or Sartor's own networks."
        )
    _check_options(spec, options)
    models = _load("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    if name in _TWO_MORE_HEADS:  # which would train on the outputs of three heads
        options.setdefault("aux_logits", False)
    if weights is None:
        options["num_classes"] = classes
    else:
        check_choice(f"weights of {spec}", weights, ["DEFAULT", *models.get_model_weights(name).__members__])
    with _making(spec, fetching=weights is not None):
        model: nn.Module = models.get_model(name, weights=weights, **options)
    return model if weights is None else _with_classes(spec, model, classes)


def _with_classes(spec: str, model: nn.Module, classes: int) -> nn.Module:
    """Replace the last layer by one for so many classes; a layer that has as many stays."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    path, layer = layers[-1]
    new: nn.Module
    if isinstance(layer, nn.Linear):
        same, new = layer.out_features == classes, nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
    elif layer.kernel_size == (1, 1):
        same, new = layer.out_channels == classes, nn.Conv2d(layer.in_channels, classes, 1, bias=layer.bias is not None)
    else:
        raise ConfigError(f"{spec} ends in {path!r}, which is no classifier; leave weights out.")
    if not same:
        parent, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)
    return model


def _check_options(spec: str, options: dict[str, Any]) -> None:
    for option in _FROM_DATA:
        if option in options:
            raise ConfigError(f"{option} of {spec} follows from the data; leave it out.")


def _load(module: str) -> Any:
    """Import timm or torchvision. Raises: ConfigError: where it is missing or broken."""
    package = module.partition(".")[0]
    cure = 'pip install "sartor[vision]"'
    try:
        prepare_torchvision()
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == package:
            raise ConfigError(f"{package} is not installed; install it with: {cure}") from error
        raise ConfigError(f"{package} lacks {error.name}; install both with: {cure}") from error
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{package} cannot be imported ({reason}); install it anew with: {cure}") from error


def _unknown(package: str, name: str, known: list[str]) -> ConfigError:
    hint = nearest(name, known)
    return ConfigError(f"{package} has no network {name!r} among the {len(known):,} that classify images.{hint}")


@contextmanager
def _making(spec: str, *, fetching: bool) -> Iterator[None]:
    """Turn what the package raises for options or weights into one line."""
    try:
        yield
    except TypeError:  # an unknown option; the registry has the words for it
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if fetching:
            cure = "connect to the network for once, or leave the weights out"
            raise ConfigError(f"the weights of {spec} cannot be had ({reason}); {cure}.") from error
        raise ConfigError(f"{spec} cannot be made for these data and options ({reason}).") from error
