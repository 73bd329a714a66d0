"""Runs of several trainings on digits with tiny networks, and runs that are stopped on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn

from sartor.data.formats import Splits
from sartor.errors import Stopped
from sartor.models.build import build_model
from sartor.recipes import Result
from sartor.recipes.recipe import Recipe
from sartor.run import Run

FC, CNN = "fc(hidden=16)", "cnn(width=4)"


def net(spec: str = FC, seed: int = 0) -> nn.Module:
    return build_model(spec, classes=10, input_shape=(1, 8, 8), seed=seed)


def fit(recipe: Recipe, splits: Splits, spec: str = FC, **options: Any) -> Result:
    return recipe.fit(net(spec), splits.train, splits.test, **options)


@contextmanager
def interrupted_after(looks: int) -> Iterator[None]:
    """Send SIGTERM to what runs inside before it looks for the so-manieth time whether it is to be saved."""
    calls, original = [0], Run._save_if_due

    def signalling(self: Run) -> None:
        calls[0] += 1
        if calls[0] == looks:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_save_if_due", signalling)
        with pytest.raises(Stopped, match="SIGTERM"):
            yield


@contextmanager
def stopped_after(looks: int) -> Iterator[None]:
    """Stop what runs inside when it looks for the so-manieth time whether it is to be saved, which it is then."""
    calls, original = [0], Run._save_if_due

    def stopping(self: Run) -> None:
        original(self)
        calls[0] += 1
        if calls[0] == looks:
            self.save()
            raise Stopped("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_save_if_due", stopping)
        with pytest.raises(Stopped):
            yield
