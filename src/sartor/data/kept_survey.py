"""The survey of a large streamed data set, kept in a file: decoding a million pictures once is enough."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import PIL
import torch
from jaxtyping import Int64
from PIL import features
from safetensors.torch import load, save
from torch import Tensor

from sartor.data.images import Decoder
from sartor.data.survey import Shape, Survey, survey
from sartor.errors import SartorError
from sartor.files import write_atomic

WORTH_KEEPING = 5000
"""Pictures from which on a survey is kept."""
_FORMAT = 1


def kept_survey(files: Sequence[str], decoder: Decoder, shape: Shape) -> Survey:
    """Return a survey without pixels, read back where one of the same files is kept.

    Files are the same if names, sizes and times of change are. It is kept for each way of decoding and version of
    Pillow, in the folder that SARTOR_CACHE names, else in XDG_CACHE_HOME/sartor or ~/.cache/sartor.
    Raises: as `survey`.
    """
    if len(files) < WORTH_KEEPING:
        return survey(files, decoder, shape, keep=False)
    versions = [_FORMAT, PIL.__version__, features.version("jpg")]
    question = json.dumps([versions, asdict(decoder), shape, [os.path.abspath(file) for file in files]])
    path = cache_folder() / f"survey-{hashlib.sha256(question.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
    states = torch.tensor([_state(file) for file in files])
    kept = _read(path, shape, states)
    if kept is not None:
        return kept
    warnings.warn(f"looking through {len(files):,} pictures once; what is found is kept in {path}.", stacklevel=2)
    found = survey(files, decoder, shape, keep=False)
    tables = {"states": states, "sums": found.sums, "digests": found.digests, "reasons": _as_bytes(found.reasons)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(tables))
    except (OSError, SartorError) as error:
        warnings.warn(f"{path} cannot be kept ({error}); the next run looks through them again.", stacklevel=2)
    return found


def cache_folder() -> Path:
    """Return the folder for what can be computed again."""
    if "SARTOR_CACHE" in os.environ:
        return Path(os.environ["SARTOR_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sartor"


def _read(path: Path, shape: Shape, states: Int64[Tensor, "n 2"]) -> Survey | None:
    """Read a kept survey; None where there is none, or the files have changed since."""
    if not path.is_file():
        return None
    try:
        tables = load(path.read_bytes())
        if not torch.equal(tables["states"], states):
            return None
        reasons = {int(place): reason for place, reason in json.loads(bytes(tables["reasons"].tolist())).items()}
        return Survey(shape, tables["sums"], tables["digests"], None, reasons)
    except Exception as error:  # a damaged file can raise anything
        warnings.warn(f"{path} is damaged ({type(error).__name__}); it is made anew.", stacklevel=3)
        return None


def _state(file: str) -> tuple[int, int]:
    """Return a file's size and time of change; -1 for one that is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _as_bytes(reasons: dict[int, str]) -> Tensor:
    return torch.tensor(list(json.dumps(reasons).encode()), dtype=torch.uint8)
