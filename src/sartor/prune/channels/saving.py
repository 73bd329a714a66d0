"""A small network in a folder: its weights and its plan, from which the factory of the dense one makes it again."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sartor.errors import PruningError
from sartor.files import make_folder, write_atomic
from sartor.prune.channels.channel_plan import ChannelPlan

WEIGHTS, PLAN = "model.safetensors", "plan.json"


def save_small(folder: str | Path, small: nn.Module, plan: ChannelPlan) -> None:
    """Write `model.safetensors` and `plan.json` into a folder, which is made if it is missing.

    Raises: PruningError: if the network is not the small one of the plan. SartorError: where nothing can be written.
    """
    plan.check_small(small)
    folder = Path(folder)
    make_folder(folder)
    # clones, since the format refuses weights that two modules share
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in small.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(state))
    plan.save(folder / PLAN)


def load_small(folder: str | Path, dense: nn.Module) -> tuple[nn.Module, ChannelPlan]:
    """Return the small network that `save_small` wrote, bit for bit, and its plan.

    `dense` is what the factory makes, with any weights, such as MODELS.build("resnet56", classes=10, input_shape=...);
    it stays as it is. The small network has its device and modes, and the number formats that were saved.
    Raises: PruningError: for files that are missing or damaged, or that do not fit each other or the dense network.
    """
    folder = Path(folder)
    plan = ChannelPlan.load(folder / PLAN)
    small = plan.shrink(dense)
    state = _read(folder / WEIGHTS)
    for name, tensor in small.state_dict(keep_vars=True).items():
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    try:
        small.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise PruningError(
            f"{folder / WEIGHTS} does not fit the plan beside it ({reason}); give both from one save_small."
        ) from error
    return small, plan


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PruningError(
            f"{path} is missing or damaged ({error}); save_small(folder, small, plan) writes it."
        ) from error
