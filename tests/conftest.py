"""What all tests share: one thread, an ear for Ctrl-C, the literal references on the path, the real data."""

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
importlib.import_module("reference.typecheck")
CHECKED = ["sartor.losses", "sartor.ranking", "sartor.select", "sartor.types", "sartor.train", "sartor.recipes.state"]
install_import_hook(CHECKED, "reference.typecheck.typechecked")  # array shapes are checked in tests, never in use
torch.set_num_threads(1)
# What a script starts in the background is deaf to SIGINT, and so would be all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("sartor", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("sartor")


@pytest.fixture
def real_data() -> Path:
    """The folder that SARTOR_DATA names; the test is skipped where it is not set."""
    place = os.environ.get("SARTOR_DATA")
    if place is None:
        pytest.skip("SARTOR_DATA is not set; it names the folder with mnist/ and fashion-mnist/")
    if not Path(place).is_dir():
        pytest.skip(f"SARTOR_DATA is {place}, which is no folder")
    return Path(place)
