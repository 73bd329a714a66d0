"""What a run costs: samples, floating-point operations, seconds and bytes, by purpose."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sartor.errors import ConfigError, PruningError, ResumeError, nearest
from sartor.types import Inputs
from sartor.undisturbed import undisturbed

MONITOR = "monitor"
"""The purpose of evaluation that only watches: recorded, but left out of the totals."""

_KINDS = (nn.modules.conv._ConvNd, nn.Linear)


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one forward pass of one sample through the dense model, 2 per multiply-add.

    `by_weight`: the part of `forward` that each convolution or Linear weight takes, by parameter name.
    """

    forward: int
    by_weight: Mapping[str, int]

    def masked(self, densities: Mapping[str, float]) -> float:
        """Return the forward FLOPs if dead weights cost nothing: each weight's part times its density (1 if not named).

        This is theoretical: dense kernels multiply by the zeros all the same.
        Raises: PruningError: for a weight that was not counted.
        """
        for name in densities:
            if name not in self.by_weight:
                raise PruningError(f"the FLOPs of {name!r} were not counted.{nearest(name, self.by_weight)}")
        return self.forward - math.fsum(self.by_weight[name] * (1 - density) for name, density in densities.items())


def training_flops(flops: Flops, densities: Mapping[str, float], *, dense_gradient: bool = False) -> float:
    """Return the theoretical FLOPs of training on one sample once: forward, and twice as much backward.

    3 f_S, with f_S the masked forward pass; 2 f_S + f_D on a step whose pruner needs the dense weight gradient, with
    f_D the dense forward pass. Source: Evci et al. 2020 (RigL), appendix on FLOPs,
    (3 f_S T + 2 f_S + f_D) / (T + 1) a step for moves every T steps.
    """
    sparse = flops.masked(densities)
    return 2 * sparse + flops.forward if dense_gradient else 3 * sparse


def count_flops(model: nn.Module, example: Inputs) -> Flops:
    """Count the dense forward FLOPs of one sample, in all and by weight.

    `example`: what the model takes, with a leading batch dimension; its first sample is passed through in eval mode
    without gradients. The total is that of torch's FlopCounterMode. A weight's part is what the calls that read it
    count, or else what its module counts while it runs. Modes, buffers, gradients and random states stay as they are.
    """
    weights = _weights(model)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    arguments, named = _first_sample(example, device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with FlopCounterMode(display=False) as counter, _ByWeight(counter, weights) as parts, _at_rest(model):
        hooks = parts.watch(model)
        try:
            torch.func.functional_call(model, buffers, arguments, named)
        finally:
            for hook in hooks:
                hook.remove()
    return Flops(counter.get_total_flops(), parts.found)


class _ByWeight(TorchDispatchMode):
    """Ascribes what `counter` counts in each call to the weight that the call reads, or to the module that runs."""

    def __init__(self, counter: FlopCounterMode, weights: Mapping[int, str]) -> None:
        super().__init__()
        self.counter, self.weights = counter, weights
        self.found = dict.fromkeys(weights.values(), 0)
        self.storages: dict[int, str] = {}
        self.running: str | None = None

    def watch(self, model: nn.Module) -> list[Any]:
        """Note which convolution or Linear module runs; returns the hooks."""
        hooks: list[Any] = []
        for module in model.modules():
            weight = module._parameters.get("weight") if isinstance(module, _KINDS) else None
            if weight is not None:
                self.storages[weight.untyped_storage()._cdata] = self.weights[id(weight)]
                hooks.append(module.register_forward_pre_hook(lambda m, _: self._run(self.weights[id(m.weight)])))
                hooks.append(module.register_forward_hook(lambda *_: self._run(None), always_call=True))
        return hooks

    def _run(self, name: str | None) -> None:
        self.running = name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        counted = self.counter.get_total_flops() - before
        if counted:
            tensors = [argument for argument in args if isinstance(argument, Tensor)]
            read = [self.storages.get(tensor.untyped_storage()._cdata) for tensor in tensors]
            name = next((name for name in read if name), self.running)
            if name is not None:
                self.found[name] += counted
        return out


class Ledger:
    """Costs by purpose (train, select, score, fuse, ...): what was charged, summed exactly.

    Each purpose has `forward` (samples passed forward only), `trained` (samples passed forward and backward), `flops`,
    `seconds` and `bytes` (highest resident memory of the process so far; the highest counts, not the sum). FLOPs are
    summed as fractions, so neither the order of charges nor a stop and resume changes a total. Totals leave out the
    purpose `monitor`.
    """

    def __init__(self) -> None:
        self._accounts: dict[str, dict[str, Any]] = {}
        self._open: list[str] = []
        self._since = 0.0

    def charge(
        self,
        purpose: str,
        *,
        forward: int = 0,
        trained: int = 0,
        flops: float = 0.0,
        seconds: float = 0.0,
        bytes: int = 0,
    ) -> None:
        """Add to what `purpose` has cost. Raises: ConfigError: for an amount that is negative or not finite."""
        given = {"forward": forward, "trained": trained, "flops": flops, "seconds": seconds, "bytes": bytes}
        for kind, amount in given.items():
            if not (math.isfinite(amount) and amount >= 0):
                raise ConfigError(f"{kind} charged to {purpose!r} is {amount}; it must be finite and not negative.")
        account = self._accounts.setdefault(purpose, _empty())
        account["forward"] += int(forward)
        account["trained"] += int(trained)
        account["flops"] += Fraction(flops)
        account["seconds"] += seconds
        account["bytes"] = max(account["bytes"], int(bytes))

    @contextmanager
    def timed(self, purpose: str) -> Iterator[None]:
        """Charge the wall seconds of the block and the peak resident memory to `purpose`.

        In nested blocks a second belongs to the innermost one only. Waits for the GPU at both ends.
        """
        self._settle()
        self._open.append(purpose)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def flops(self) -> float:
        """Return all FLOPs but those of monitoring."""
        return float(sum((account["flops"] for account in self._counted()), Fraction(0)))

    def seconds(self) -> float:
        """Return all wall seconds but those of monitoring."""
        self._settle()
        return math.fsum(account["seconds"] for account in self._counted())

    def samples(self) -> dict[str, int]:
        """Return the numbers of samples passed `forward` only and `trained`, without monitoring."""
        return {kind: sum(account[kind] for account in self._counted()) for kind in ("forward", "trained")}

    def epoch_equivalents(self, n: int) -> float:
        """Return how many passes over a pool of `n` samples the training amounts to."""
        return self.samples()["trained"] / n

    def by_purpose(self) -> dict[str, dict[str, float]]:
        """Return every purpose's costs, monitoring included."""
        self._settle()
        return {purpose: {**account, "flops": float(account["flops"])} for purpose, account in self._accounts.items()}

    def to_json(self) -> dict[str, Any]:
        """Return costs by purpose and their totals (without monitoring) as plain values."""
        by_purpose = self.by_purpose()
        peak = max((account["bytes"] for account in self._counted()), default=0)
        total = {**self.samples(), "flops": self.flops(), "seconds": self.seconds(), "bytes": peak}
        return {"by_purpose": by_purpose, "total": total}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Return the exact costs so far as plain values; time in a block that is still open is included."""
        self._settle()
        return {purpose: {**account, "flops": str(account["flops"])} for purpose, account in self._accounts.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue from the costs of `state_dict`. Raises: ResumeError: if they are not such costs."""
        for purpose, account in state.items():
            if set(account) != set(_empty()):
                raise ResumeError(
                    f"the costs of {purpose!r} have {sorted(account)}; they must have {sorted(_empty())}."
                )
        self._accounts = {
            purpose: {**account, "flops": Fraction(account["flops"])} for purpose, account in state.items()
        }
        self._since = time.perf_counter()

    def _counted(self) -> list[dict[str, Any]]:
        return [account for purpose, account in self._accounts.items() if purpose != MONITOR]

    def _settle(self) -> None:
        """Charge the time since the last settling to the innermost open block."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._open:
            self.charge(self._open[-1], seconds=now - self._since, bytes=peak_resident_bytes())
        self._since = now


def peak_resident_bytes() -> int:
    """Return the highest resident memory of this process so far; 0 on Windows, which does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _empty() -> dict[str, Any]:
    return {"forward": 0, "trained": 0, "flops": Fraction(0), "seconds": 0.0, "bytes": 0}


def _weights(model: nn.Module) -> dict[int, str]:
    """Return the first name of each convolution or Linear weight, by its identity."""
    names: dict[int, str] = {}
    for module_name, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, _KINDS) else None
        if weight is not None:
            names.setdefault(id(weight), f"{module_name}.weight" if module_name else "weight")
    return names


def _first_sample(example: Inputs, device: torch.device) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    if isinstance(example, dict):
        return (), {name: value[:1].to(device) for name, value in example.items()}
    values = example if isinstance(example, tuple) else (example,)
    return tuple(value[:1].to(device) for value in values), {}


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Surround a look at the model that leaves it as it was.

    Attention runs as separate matrix products, since fused ones are not counted on every device.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with undisturbed(model), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
