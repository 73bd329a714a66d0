"""`torchrun -m sartor train`: the processes find each other, speak with one voice, and stop and go on together."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SMALL, SWAST, results_of, write_images

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sartor")
PATIENCE = 120.0
SLOW_NETWORK = """
import time
from torch import nn

class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(0.02 * self.training)
        return super().forward(x)

def net(classes, input_shape):
    return Slow(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))
"""
LONG = ("train", "swast", *SMALL[:4], "--model", "slow.py:net", "--batch-size", "32", "--epochs", "12", "--every", "2")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images and a slow network in it."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "slow.py").write_text(SLOW_NETWORK)
    return tmp_path


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen]:
    """Start two processes; what is left of them at the end is ended."""
    with open("stdout", "w") as out, open("stderr", "w") as err:
        process = subprocess.Popen(
            [*TORCHRUN, *arguments], stdout=out, stderr=err, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)


def run(*arguments: str) -> int:
    """Run two processes to their end; return torchrun's exit code."""
    with started(*arguments) as process:
        return process.wait(PATIENCE)


def said() -> list[str]:
    """What the processes, not torchrun, said of errors."""
    return [line for line in Path("stderr").read_text().splitlines() if line.startswith("sartor: ")]


def until(pattern: str, process: subprocess.Popen) -> None:
    """Wait until the processes have printed something."""
    end = time.monotonic() + PATIENCE
    while not re.search(pattern, Path("stdout").read_text()):
        assert process.poll() is None, Path("stderr").read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_processes_train_and_one_speaks() -> None:
    assert run(*SWAST, "--out", "run") == 0
    out = Path("stdout").read_text()
    assert len(re.findall(r"(?m)^epoch +\d", out)) == 4
    assert len(re.findall(r"(?m)^test accuracy", out)) == 1
    assert results_of(Path("run"))["epochs"] == 4
    assert said() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_stopped_by_a_signal_to_torchrun_they_go_on_as_if_unbroken(name: str) -> None:
    with started(*LONG, "--out", "run") as process:
        until(r"epoch +3 ", process)
        process.send_signal(signal.Signals[name])
        start = time.monotonic()
        assert process.wait(PATIENCE) != 0
        assert time.monotonic() - start < 20
    assert said() == [f"sartor: stopped by {name}; the state is saved in run. Give the same command again to go on."]
    assert not Path("run/results.json").exists()
    assert run(*LONG, "--out", "run") == 0
    assert "epoch    1" not in Path("stdout").read_text()
    assert run(*LONG, "--out", "unbroken") == 0
    assert results_of(Path("run"))["digest"] == results_of(Path("unbroken"))["digest"]
    assert Path("run/metrics.jsonl").read_bytes() == Path("unbroken/metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_wrong_input_is_said_once() -> None:
    assert run(*SWAST, "--lr", "-1", "--out", "run") != 0
    assert said() == ["sartor: lr is -1; it must lie in (0, inf)."]
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "cure"), [("compare", "start it without, and with --jobs N"), ("report", "start")])
def test_what_works_alone_is_refused_once(command: str, cure: str) -> None:
    assert run(command, "runs") != 0
    assert len(said()) == 1
    assert said()[0].startswith(f"sartor: sartor {command} cannot be started by torchrun; {cure}")
