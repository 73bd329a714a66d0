"""Networks and data that behave oddly, and memory that does not suffice."""

import math
import random
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import COMPARE, SWAST, call, write_images
from tiny import RECIPE, covers, fit, in_child, network, notes, one_line, outcome, splits, stop_after, unbroken
from torch import Tensor, nn
from torch.utils.data import Dataset

from sartor.data.pool import Pool
from sartor.errors import ConfigError, DataError, OutOfMemory, ResumeError, SelectionError
from sartor.memory import enough_memory, shortage
from sartor.recipes import Dense
from sartor.scanning import scan
from sartor.train import Trainer

BROAD = Dense(epochs=2, batch_size=16, probe=20)


class Body(nn.Module):
    """A small network with all that a forward may disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.hidden = nn.Flatten(), nn.Linear(64, 16)
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.3)
        self.classifier = nn.Linear(16, 10)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.drop(self.norm(self.hidden(self.flatten(x))).relu()))


class SwitchesOn(Body):
    def forward(self, x: Tensor) -> Tensor:
        self.train()
        return super().forward(x)


class SwitchesOff(Body):
    def forward(self, x: Tensor) -> Tensor:
        self.eval()
        return super().forward(x)


class Counts(Body):
    """Changes a buffer at every call, in eval mode too, in place or by another tensor; its outputs depend on it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        else:
            self.calls = self.calls + 100
            self.norm.running_mean += 1
        return super().forward(x) + self.calls / 1000


class Draws(Body):
    """Draws from Python's, numpy's and torch's global random numbers, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        noise = random.gauss(0, 1) + np.random.standard_normal() + float(torch.randn(()))
        return super().forward(x) + 0.01 * noise * x.flatten(1)[:, :10]


class Pair(Body):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class McDropout(nn.Dropout):
    """Always drops, as its owner wants: no forward changes a mode."""

    def train(self, mode: bool = True) -> "McDropout":
        return super().train(True)


def body(kind: type[Body]) -> Body:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind()


def train(model: nn.Module, folder: Path | None, recipe: Dense = BROAD, **options: object) -> dict:
    data = splits()
    return recipe.fit(model, data.train, data.test, out=folder, save_every=0.0, augment=data.augment, **options).results


@covers("a network that switches its own mode")
@pytest.mark.parametrize("kind", [SwitchesOn, SwitchesOff])
def test_a_network_that_switches_its_own_mode_is_refused(tmp_path: Path, kind: type[Body]) -> None:
    model = body(kind)
    with pytest.raises(
        ConfigError, match=f"the forward of {kind.__name__} calls train\\(\\) or eval\\(\\) itself"
    ) as caught:
        train(model, tmp_path / "run")
    one_line(caught.value)
    if kind is SwitchesOn:
        assert not (tmp_path / "run").exists()
        assert int(model.norm.num_batches_tracked) == 0, "it was not disturbed by the look at it"
        with pytest.raises(ConfigError, match="itself; leave that to the caller"):
            scan(model, splits().train, needs={"logits"})


@covers("a network that switches its own mode")
def test_a_module_that_stays_in_one_mode_on_purpose_is_none_of_those(tmp_path: Path) -> None:
    model = body(Body)
    model.drop = McDropout(0.3)
    assert train(model, tmp_path / "run")["steps"] == 18


@covers("buffers that change in evaluation", "dropout, and other random numbers in a network")
@pytest.mark.parametrize("kind", [Body, Counts, Draws])
def test_evaluations_do_not_disturb_the_training(kind: type[Body]) -> None:
    """As many as there may be: the weights are the same, and so are the global random states."""
    splits()  # the library that brings the digits draws a number when it is first imported
    python, numpy, own = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    often = train(body(kind), None)["digest"]
    seldom = train(body(kind), None, BROAD.with_options(evaluate_every=100, probe=0))["digest"]
    assert often["weights"] == seldom["weights"]
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy
    assert torch.equal(torch.get_rng_state(), own)


@covers("buffers that change in evaluation", "dropout, and other random numbers in a network")
@pytest.mark.parametrize("kind", [Body, Counts, Draws])
def test_they_go_on_bit_for_bit(tmp_path: Path, kind: type[Body]) -> None:
    import os
    import signal

    def work() -> None:
        original = Trainer.train_step

        def step(trainer: Trainer, *given: object) -> object:
            if trainer.step == 12:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(trainer, *given)

        Trainer.train_step = step
        train(body(kind), tmp_path / "run")

    assert in_child(work) == -signal.SIGKILL
    assert train(body(kind), tmp_path / "run")["digest"] == train(body(kind), tmp_path / "whole")["digest"]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


@covers("buffers that change in evaluation")
def test_a_scan_leaves_buffers_as_they_were() -> None:
    model = body(Counts)
    owned, before = model.calls, {name: value.clone() for name, value in model.state_dict().items()}
    scan(model, splits().train, needs={"logits", "features"}, head="classifier")
    assert model.calls is owned
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@covers("a network that returns something else than logits")
def test_a_network_that_returns_a_tuple(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"the model makes tuple of one sample; it must make logits, \(1, 10\)"
    ) as caught:
        train(body(Pair), tmp_path / "run")
    one_line(caught.value)
    with pytest.raises(SelectionError, match="the model returns tuple; a scan needs a tensor of logits"):
        scan(body(Pair), splits().train, needs={"logits"})
    assert not (tmp_path / "run").exists()


class Shaking(Dataset):
    """Items that come out otherwise each time."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), random.random()), number % 10


@covers("data that change between two reads")
def test_data_that_change_while_they_are_read(tmp_path: Path) -> None:
    pool = Pool.from_dataset(Shaking(), classes=10, streamed=True)
    with pytest.raises(DataError, match=r"reads otherwise than when the pool was made\. .*augment") as caught:
        Dense(epochs=2, holdout=0.0).fit(network(), pool, out=tmp_path / "run")
    one_line(caught.value)


@covers("data that change between two reads")
def test_data_that_changed_between_two_starts(tmp_path: Path) -> None:
    stop_after(tmp_path / "run", 5)
    data = splits()
    altered = data.train.gather(data.train.rows).clone()
    altered[0, 0, 0, 0] += 0.01
    pool = Pool.from_arrays(altered, data.train.targets_of(data.train.rows), classes=10)
    with pytest.raises(ResumeError, match=r"another configuration: .*train was .*fingerprint") as caught:
        RECIPE.fit(network(), pool, data.test, out=tmp_path / "run")
    one_line(caught.value)
    fit(tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken()


class Hungry(nn.Module):
    """Asks for a petabyte in a certain phase."""

    def __init__(self, phase: str, fits: int = 0) -> None:
        super().__init__()
        self.body, self.phase, self.calls, self.fits = network(), phase, 0, fits

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        training = self.training and self.phase == "training" and self.calls > 12
        watching = not self.training and self.phase == "evaluation" and len(x) > max(1, self.fits)
        if training or watching or self.phase == "always":
            torch.empty(2**50, dtype=torch.uint8)
        return self.body(x)


@covers("out of memory")
@pytest.mark.parametrize("phase", ["training", "always"])
def test_a_network_that_asks_for_too_much(tmp_path: Path, phase: str) -> None:
    said = r"out of memory, 1\.05e\+06 GiB at once were asked for; lower --batch-size \(it is 16\) or use a smaller"
    with pytest.raises(OutOfMemory, match=said) as caught:
        train(Hungry(phase), tmp_path / "run")
    assert "the last checkpoint is kept." in one_line(caught.value)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists() == (phase != "always")


@covers("out of memory in a selection or an evaluation")
def test_forward_passes_go_on_in_smaller_batches(tmp_path: Path) -> None:
    """Nobody could choose their size."""
    recipe = RECIPE.with_options(selector="el2n", probe=0, noise=0.0)
    data = splits()
    with notes() as lines:
        found = recipe.fit(Hungry("evaluation", fits=20), data.train, data.test, out=tmp_path / "run").results
    whole = recipe.fit(Hungry("never"), data.train, data.test).results
    assert found["digest"]["subset"] == whole["digest"]["subset"]
    assert found["test_accuracy"] == whole["test_accuracy"]
    assert found["samples"] == whole["samples"]
    halves = [f"going on in batches of {size}. The last bits may differ." for size in (64, 32, 16)]
    assert [half for half in halves if any(half in line for line in lines)] == halves
    model = Hungry("evaluation", fits=20)
    assert torch.equal(
        scan(model, data.train, needs={"logits"}, batch_size=16).logits.argmax(1),
        scan(model, data.train, needs={"logits"}).logits.argmax(1),
    )


@covers("out of memory")
def test_after_which_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.train_step

    def hungry(trainer: Trainer, *given: object) -> object:
        if trainer.step == 11:
            np.empty(2**50)
        return original(trainer, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", hungry)
        with pytest.raises(OutOfMemory, match=r"out of memory, 8\.00 PiB at once"):
            fit(tmp_path / "run")
    fit(tmp_path / "run")
    assert outcome(tmp_path / "run") == unbroken()


@covers("out of memory")
def test_what_counts_as_a_shortage() -> None:
    cuda = (
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB of which 1 GiB is free."
    )
    assert shortage(torch.OutOfMemoryError(cuda)) == "out of memory, 2.50 GiB at once were asked for"
    assert shortage(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")) == "out of memory"
    assert shortage(MemoryError()) == "out of memory"
    assert shortage(RuntimeError("std::bad_alloc")) == "out of memory"
    assert shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert shortage(ValueError("out of memory")) is None
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("lower something"):
        raise RuntimeError("shapes")


LIMITED = """
import resource, sys
from sartor.cli import main
import sartor.comparison, sartor.recipes, torch, numpy

resource.setrlimit(resource.RLIMIT_AS, (int(open("/proc/self/statm").read().split()[0]) * 4096 + 2**29,) * 2)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@covers("out of memory")
def test_a_limit_of_the_system(tmp_path: Path) -> None:
    """512 MiB more than the imports take: a wide network is refused in one line, a small one trains."""
    write_images(tmp_path / "images")
    wide = [part if not part.startswith("cnn") else "cnn(width=4096)" for part in map(str, SWAST)]
    for arguments, code in ((wide, 2), (list(map(str, SWAST)), 0)):
        ended = subprocess.run(
            [sys.executable, "-c", LIMITED, *arguments, "--out", f"run-{code}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        lines = [line for line in ended.stderr.splitlines() if not line.startswith("sartor: note: ")]
        assert all(line.startswith("sartor: out of memory") for line in lines), ended.stderr
        assert len(lines) == (1 if code else 0)
    assert resource.getrlimit(resource.RLIMIT_AS)[0] in (-1, resource.RLIM_INFINITY) or math.inf


@covers("out of memory")
def test_a_run_of_a_comparison_that_needs_too_much_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    original = Trainer.train_step

    def hungry(trainer: Trainer, *given: object) -> object:
        if trainer.masks is not None:
            torch.empty(2**50, dtype=torch.uint8)
        return original(trainer, *given)

    monkeypatch.setattr(Trainer, "train_step", hungry)
    ended = call(*COMPARE, "--arms", "dense", "swast-cut", "--seeds", "1", "--out", "all")
    assert ended.code == 2
    assert "failed: out of memory, 1.05e+06 GiB at once were asked for; lower --batch-size (it is 32)" in ended.out
    assert "1 of 2 runs failed, see above; give the same command to try them again." in ended.err
    assert len(list(tmp_path.glob("all/**/dense/**/results.json"))) == 1
