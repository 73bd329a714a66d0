"""What each operation does to the labels of channels; an operation that no rule knows lets no channel go."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._pytree import tree_map

from sartor.prune.channels.following import Coordinates, Following, Rule, tensors_of
from sartor.prune.channels.labels import STAYS

_MOVES = {
    *("cat", "stack", "clone", "_to_copy", "_unsafe_view", "repeat", "roll", "flip", "index_select", "index"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "contiguous", "lift_fresh"),
}
_BY_MEMORY = {"view_as_real", "view_as_complex", "_conj", "_neg_view"}
_RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias"}
_POINTWISE = {
    *("_prelu_kernel", "hardswish", "rrelu_with_noise", "log_sigmoid_forward", "native_dropout", "masked_fill"),
    *("copy", "fill", "zero", "rsub", "floor_divide", "tril", "triu", "bernoulli"),
}
"""Operations element by element that torch does not mark as such."""
_ALONG = {"_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "sort", "topk", "gather", "logcumsumexp"}
_REDUCES = {
    *("mean", "sum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean", "norm", "nansum"),
    *("linalg_vector_norm", "logsumexp", "argmax", "argmin", "any", "all", "median"),
}
_WINDOW = re.compile(r"^_?(adaptive_)?(avg|max)_pool(\d)d|^_?upsample_\w+?(\d)d|^(reflection|replication)_pad(\d)d")
_BATCH_NORM = re.compile(r"batch_norm")


def rule_of(func: Any) -> Rule:
    """Return the rule for an operation."""
    name = func.overloadpacket.__name__.removesuffix("_")
    if name in _SPECIAL:
        return _SPECIAL[name]
    if (func.is_view and name not in _BY_MEMORY) or name in _MOVES:
        return move
    if torch.Tag.pointwise in func.tags or name in _POINTWISE or name.endswith("_like"):
        return pointwise
    for kinds, rule in ((_ALONG, along), (_REDUCES, reduce)):
        if name in kinds:
            return rule
    if _BATCH_NORM.search(name):
        return batch_norm
    return window if _WINDOW.match(name) else unknown


def move(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Move labels about as the operation moves the elements: it is done to them, too."""
    moved = args[0]
    name = func.overloadpacket.__name__

    def done(known: Any) -> list[Tensor]:
        if name in _RESHAPES:
            return [known.reshape(out.shape)]
        rest = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, args[1:])
        named = {key: value for key, value in kwargs.items() if key not in ("dtype", "device", "layout", "pin_memory")}
        if name in ("_to_copy", "clone", "lift_fresh"):
            return [known]
        return tensors_of(func(known, *rest, **named))

    results = tensors_of(out)
    parts = to.coordinates(moved)
    if parts is not None:
        places = [done(place) for place in parts.places]
        for number, result in enumerate(results):
            to.give(result, Coordinates(parts.name, tuple(place[number] for place in places)))
        return
    labels = [to.labels(tensor) for tensor in moved] if isinstance(moved, list | tuple) else to.labels(moved)
    for result, found in zip(results, done(labels), strict=True):
        to.give(result, found)


def restride(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Another layout of the same elements in the same order, as pooling makes; any other is not known."""
    known = to.labels(args[0])
    sides = [dim for dim, side in enumerate(out.shape) if side > 1]
    steps = [math.prod(out.shape[dim + 1 :]) for dim in sides]
    if known.shape != out.shape or [out.stride(dim) for dim in sides] != steps:
        return unknown(to, func, args, kwargs, out)
    return to.give(out, known)


def pointwise(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Channels that meet element by element are one."""
    operands = tensors_of((args, kwargs))
    if not operands:
        return made(to, func, args, kwargs, out)
    found = to.labels(operands[0])
    for operand in operands[1:]:
        found = to.pair(found, to.labels(operand), f"channels meet a tensor of a size that the code fixes ({func})")
    for result in tensors_of(out):
        to.give(result, found.expand(result.shape))
    return None


def along(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Elements along one dimension depend on each other; channels there stay."""
    labels, dim = to.labels(args[0]), _argument(func, args, kwargs, "dim")
    for result in tensors_of(out):
        to.give(result, _first(to, labels, [dim]).expand(result.shape))


def reduce(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Dimensions are summed up; channels there stay."""
    labels, dim = to.labels(args[0]), _argument(func, args, kwargs, "dim")
    dims = [dim] if isinstance(dim, int) else list(dim or range(labels.ndim))
    first = _first(to, labels, dims)
    for result in tensors_of(out):
        small = first
        if result.ndim < labels.ndim:
            for place in sorted((dim % labels.ndim for dim in dims), reverse=True):
                small = small.select(place, 0)
        to.give(result, small.expand(result.shape))


def halves(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """One half of the channels is the gate of the other."""
    one, other = to.labels(args[0]).chunk(2, _argument(func, args, kwargs, "dim"))
    to.give(out, to.pair(one, other, f"a gate has a size that the code fixes ({func})"))


def window(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Places of an image or a text are pooled or spread; channels are left alone."""
    labels = to.labels(args[0])
    sides = int(next(digit for digit in reversed(func.overloadpacket.__name__) if digit.isdigit()))
    if "max_pool2d" in func.overloadpacket.__name__:
        sides = 2
    dims = tuple(range(labels.ndim - sides, labels.ndim))
    first = to.one_along(labels, dims, f"channels are pooled together ({func})")
    for result in tensors_of(out):
        to.give(result, first.expand(result.shape))


def constant_pad(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Borders of an image belong to its channels; channels that are padded meet a number that the code fixes."""
    labels, pads = to.labels(args[0]), args[1]
    for number in range(len(pads) // 2):
        dim, before, after = labels.ndim - 1 - number, pads[2 * number], pads[2 * number + 1]
        size = labels.shape[dim] + before + after
        if not to.set.varies(labels, dim):
            labels = labels.narrow(dim, 0, 1).expand(*labels.shape[:dim], size, *labels.shape[dim + 1 :])
        else:
            labels = torch.constant_pad_nd(labels, [0, 0] * number + [before, after], 1)
    to.give(out, labels)


def convolution(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A weight reads channels along one dimension and makes new ones along another; groups go as a whole."""
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    read = _vector(to, to.labels(x), 1, func)
    coordinates = to.coordinates(weight)
    reads, makes = (0, 1) if transposed else (1, 0)
    axes = [] if coordinates is None else [to.axis(coordinates, reads), to.axis(coordinates, makes)]
    if coordinates is None or axes[0] is None or axes[1] is None:
        to.refuse_computed(weight, func)
        to.obstruct(read, f"the weight is no parameter but computed ({func})")
        return to.give(out, torch.tensor(STAYS).expand(out.shape))
    if groups == 1:
        new = _read_and_make(to, read, coordinates, reads, makes, x.movedim(1, -1))
    else:
        outer = axes[1] if not transposed else axes[0]
        one = _whole(to, read.reshape(groups, -1), func)
        to.set.unite(outer.reshape(groups, -1), to.set.roots(one))
        new = to.set.roots(one).expand(groups, out.shape[1] // groups).flatten()
        to.made_along(coordinates, 0)
    if bias is not None:
        new = to.pair(new, _own(to, bias), f"the bias is computed ({func})")
    return to.give(out, new.reshape(-1, *[1] * (out.ndim - 2)).expand(out.shape))


def product(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A matrix product: with a parameter it reads channels and makes new ones; of two activations, all become one."""
    has_sum = len(args) == 3
    one, other = args[-2:]
    weight, weight_first = to.coordinates(other), to.coordinates(one)
    if weight is not None and other.ndim == 2:
        new = _linear(to, one, to.labels(one), weight, 0, 1, func)
    elif weight_first is not None and one.ndim == 2:
        labels = to.labels(other).reshape(len(other), -1)
        values = other.reshape(len(other), -1)
        new = _linear(to, values.t(), labels.t(), weight_first, 1, 0, func).t().reshape(out.shape)
    else:
        if to.refuse_computed(one, func) or to.refuse_computed(other, func):
            return to.give(out, torch.tensor(STAYS).expand(out.shape))
        new = _activations(to, to.labels(one), to.labels(other), func)
    if has_sum:
        added = args[0]
        own = _own(to, added) if added.ndim == 1 else to.labels(added)
        new = to.pair(new, own, f"the bias is computed ({func})")
    return to.give(out, new.expand(out.shape))


def linear(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A product with a transposed matrix, and a bias."""
    x, weight, bias = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("bias")
    coordinates = to.coordinates(weight)
    labels = to.labels(x).reshape(-1, x.shape[-1])
    if coordinates is None:
        return unknown(to, func, args, kwargs, out)
    new = _linear(to, x.reshape(-1, x.shape[-1]), labels, coordinates, 1, 0, func)
    if bias is not None:
        new = to.pair(new, _own(to, bias), f"the bias is computed ({func})")
    return to.give(out, new.reshape(out.shape))


def embedding(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A table makes channels along its rows."""
    coordinates = to.coordinates(args[0])
    made_here = None if coordinates is None else to.axis(coordinates, 1)
    if coordinates is None or made_here is None:
        return unknown(to, func, args, kwargs, out)
    to.made_along(coordinates, 1)
    return to.give(out, made_here.expand(out.shape))


def batch_norm(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Every channel has a number of its own in the weight, the bias and the statistics."""
    vector = _vector(to, to.labels(args[0]), 1, func)
    for tensor in tensors_of(args[1:5]):
        vector = to.pair(vector, _own(to, tensor), f"the norm's numbers are computed ({func})")
    labels = vector.reshape(-1, *[1] * (args[0].ndim - 2)).expand(args[0].shape)
    results = tensors_of(out)
    to.give(results[0], labels)
    for rest in results[1:]:
        to.give(rest, torch.tensor(STAYS).expand(rest.shape))


def layer_norm(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A norm over the last dimensions: channels there stay, or what is left of them is normed alone."""
    labels, count = to.labels(args[0]), len(args[1])
    dims = range(labels.ndim - count, labels.ndim)
    if to.exact and any(to.set.varies(labels, dim) for dim in dims):
        to.stay(labels)
    for tensor in tensors_of(args[2:4]):
        own = _own(to, tensor) if tensor.ndim == 1 else to.labels(tensor)
        labels = to.pair(labels, own, f"the norm's numbers are computed ({func})")
    results = tensors_of(out)
    to.give(results[0], labels)


def group_norm(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """A norm over groups of channels: these go as a whole, and those of a single group stay."""
    vector, groups = _vector(to, to.labels(args[0]), 1, func), args[6]
    if groups == 1 and to.exact:
        to.stay(vector)
    vector = _whole(to, vector.reshape(groups, -1), func).expand(groups, len(vector) // groups).flatten()
    for tensor in tensors_of(args[1:3]):
        vector = to.pair(vector, _own(to, tensor), f"the norm's numbers are computed ({func})")
    results = tensors_of(out)
    to.give(results[0], vector.reshape(-1, *[1] * (args[0].ndim - 2)).expand(args[0].shape))


def made(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """What is made of nothing has no channels, and a size that the code fixes."""


def unknown(to: Following, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Nobody can tell what becomes of channels here, so none can leave."""
    operands = tensors_of((args, kwargs))
    for operand in operands:
        to.obstruct(to.labels(operand), f"{func} is not known")
    if operands:
        for result in tensors_of(out):
            to.give(result, torch.tensor(STAYS).expand(result.shape))


_SPECIAL: dict[str, Rule] = {
    "constant_pad_nd": constant_pad,
    "convolution": convolution,
    "glu": halves,
    "as_strided": restride,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "mv", "addmv"), product),
    "linear": linear,
    "embedding": embedding,
    "native_layer_norm": layer_norm,
    "_fused_rms_norm": layer_norm,
    "native_group_norm": group_norm,
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", "scalar_tensor"), made),
}


def _read_and_make(
    to: Following, read: Int64[Tensor, "k"], weight: Coordinates, reads: int, makes: int, values: Tensor
) -> Int64[Tensor, "j"]:
    """Unite what is read with the weight's places for it; return the labels of what is made."""
    inputs, outputs = to.axis(weight, reads), to.axis(weight, makes)
    assert inputs is not None
    assert outputs is not None
    to.set.unite(torch.where(read > 1, read, STAYS), inputs)
    to.read_along(weight, reads, values)
    to.made_along(weight, makes)
    return outputs


def _linear(
    to: Following, values: Tensor, x: Int64[Tensor, "r k"], weight: Coordinates, reads: int, makes: int, func: Any
) -> Int64[Tensor, "r j"]:
    """Return the labels of a product of activations, whose labels are `x`, and a weight."""
    inputs, outputs = to.axis(weight, reads), to.axis(weight, makes)
    size = weight.places[0].shape[makes]
    if inputs is None or outputs is None:
        to.obstruct(x, f"the weight is a part of a parameter, put together anew ({func})")
        return torch.tensor(STAYS).expand(len(x), size)
    if to.set.varies(x, 0) and not to.set.varies(x, 1):  # the weight mixes something else, such as places
        to.stay(inputs)
        to.stay(outputs)
        return x[:, :1].expand(len(x), size)
    read = to.one_along(x, (0,), f"channels are read together ({func})")[0]
    return _read_and_make(to, read, weight, reads, makes, values).expand(len(x), size)


def _activations(to: Following, one: Tensor, other: Tensor, func: Any) -> Tensor:
    """Return the labels of a product of two activations: all that is in one matrix becomes one channel."""
    why = f"channels meet in a product ({func})"
    one, other = to.set.roots(one), to.set.roots(other)
    a, b = (one if one.ndim == 3 else one[None]), (other if other.ndim == 3 else other.reshape(1, len(other), -1))
    shape = (len(a), a.shape[1], b.shape[2])
    for plain, full, kept in ((a, b, 2), (b, a, 1)):
        if not bool((plain > 1).any()) and not any(to.set.varies(full, dim) for dim in {0, 1, 2} - {kept}):
            found = full.select(3 - kept, 0).unsqueeze(3 - kept).expand(shape)
            return found if one.ndim == 3 else found[0]
    found = to.pair(to.one_along(a, (1, 2), why), to.one_along(b, (1, 2), why), why).expand(shape)
    return found if one.ndim == 3 else found[0]


def _vector(to: Following, labels: Tensor, dim: int, func: Any) -> Int64[Tensor, "c"]:
    """Return one label for each place along `dim`."""
    others = tuple(other for other in range(labels.ndim) if other != dim)
    return to.one_along(labels, others, f"channels are read together ({func})").flatten()


def _whole(to: Following, groups: Int64[Tensor, "g m"], func: Any) -> Int64[Tensor, "g 1"]:
    """Make the channels of each group one."""
    one = to.one_along(groups, (1,), f"channels are grouped ({func})")
    return torch.where(one > 1, one, STAYS)


def _own(to: Following, vector: Tensor) -> Int64[Tensor, "c"]:
    """Return the labels of a parameter's only dimension, or else of a tensor's elements."""
    coordinates = to.coordinates(vector)
    found = None if coordinates is None or vector.ndim != 1 else to.axis(coordinates, 0)
    return to.labels(vector) if found is None else found


def _first(to: Following, labels: Tensor, dims: list[int]) -> Tensor:
    """Return labels with size 1 along `dims`; channels that run along them stay."""
    running = [dim for dim in dims if labels.ndim and to.set.varies(labels, dim)]
    if running and to.exact:
        to.stay(labels)
    first = to.set.roots(labels)
    for dim in dims if labels.ndim else []:
        first = first.narrow(dim, 0, 1)
    return torch.tensor(STAYS).expand(first.shape) if running else first


def _argument(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """Return an argument by its name in the operation's schema."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == name:
            return args[place] if place < len(args) else kwargs.get(name, argument.default_value)
    return None
