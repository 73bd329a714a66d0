import json
import signal
from pathlib import Path

import pytest
import torch

from sartor.errors import ResumeError, Stopped
from sartor.run import Run


class Counter:
    """Something to track."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict:
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["value"]


def count(folder: Path | None, *, stop_after: int | None = None, save_every: float = 1e9) -> tuple[int, list[str]]:
    """A program of two phases; stops itself by a signal after so many steps."""
    trace: list[str] = []
    with Run(folder, {"a": 1}, seed=0, save_every=save_every) as run:
        counter = run.track("counter", Counter())
        start = run.once("start", lambda: trace.append("once") or 100)
        for phase in ("first", "second"):
            for epoch in run.epochs(2, phase):
                for number in run.steps(range(run.step, 3)):
                    trace.append(f"{phase} {epoch} {number}")
                    counter.value += 1
                    if stop_after is not None and len(trace) >= stop_after:
                        signal.raise_signal(signal.SIGINT)
                run.log("epoch", phase=phase, epoch=epoch, value=counter.value)
        return start + counter.value, trace


def test_a_program_replays_to_its_place(tmp_path: Path) -> None:
    whole, expected = count(None)
    assert whole == 112
    for stop in range(2, 13):
        folder = tmp_path / str(stop)
        with pytest.raises(Stopped, match="SIGINT"):
            count(folder, stop_after=stop)
        value, trace = count(folder)
        assert value == whole
        assert trace == expected[stop:]
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["value"] for line in lines] == [3, 6, 9, 12]


def test_once_is_computed_once_and_may_hold_tensors(tmp_path: Path) -> None:
    with Run(tmp_path / "run", {}, seed=0) as run:
        first = run.once("plan", lambda: {"kept": torch.arange(3)})
    with Run(tmp_path / "run", {}, seed=0) as run:
        again = run.once("plan", lambda: pytest.fail("computed again"))
    assert torch.equal(first["kept"], again["kept"])


def test_generators_depend_on_seed_purpose_and_epoch_only() -> None:
    def draw(seed: int, purpose: str, epoch: int) -> list[float]:
        return torch.rand(3, generator=Run(None, {}, seed=seed).generator(purpose, epoch)).tolist()

    assert draw(0, "select", 1) == draw(0, "select", 1)
    assert (
        len({tuple(draw(*key)) for key in ((0, "select", 1), (1, "select", 1), (0, "order", 1), (0, "select", 2))}) == 4
    )


def test_saves_when_due_and_not_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = []
    original = Run.save
    monkeypatch.setattr(Run, "save", lambda run: saves.append(1) or original(run))
    count(tmp_path / "never", save_every=1e9)
    assert len(saves) == 3  # the value computed once, and the ends of two phases
    saves.clear()
    count(tmp_path / "always", save_every=0.0)
    assert len(saves) == 3 + 12 + 4


def test_the_second_signal_quits_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "run", {}, seed=0) as run:
        for _ in run.epochs(1, "train"):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Run(tmp_path / "run", {}, seed=0):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_metrics_cut_short_are_written_anew_from_the_checkpoint(tmp_path: Path) -> None:
    count(tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    before = path.read_text()
    path.write_text("")
    with pytest.warns(UserWarning, match=r"metrics\.jsonl was damaged or cut short; written anew from .*last\.pt"):
        Run(tmp_path / "run", {"a": 1}, seed=0)
    assert path.read_text() == before


@pytest.mark.parametrize("finished", [True, False])
def test_an_option_that_the_folder_is_older_than_had_its_default(tmp_path: Path, finished: bool) -> None:
    count(tmp_path / "run")
    if finished:
        with Run(tmp_path / "run", {"a": 1}, seed=0) as run:
            run.finish({"done": True})
    again = Run(tmp_path / "run", {"a": 1, "new": 5}, seed=0, defaults={"new": 5, "not asked": 1})
    assert (again.results is not None) == finished
    again.__exit__(None, None, None)
    with pytest.raises(ResumeError, match="another configuration: new was 5, is now 6"):
        Run(tmp_path / "run", {"a": 1, "new": 6}, seed=0, defaults={"new": 5})
    with pytest.raises(ResumeError, match="another configuration: new was None, is now 5"):
        Run(tmp_path / "run", {"a": 1, "new": 5}, seed=0)


def test_another_format_is_refused(tmp_path: Path) -> None:
    count(tmp_path / "run")
    torch.save({"format": 99}, tmp_path / "run" / "checkpoints" / "last.pt")
    with pytest.raises(ResumeError, match="format 99"):
        Run(tmp_path / "run", {"a": 1}, seed=0)


def test_left_over_parts_of_writes_are_swept_away(tmp_path: Path) -> None:
    count(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".last.pt.1.tmp").write_bytes(b"half")
    Run(tmp_path / "run", {"a": 1}, seed=0)
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_listener_hears_every_line() -> None:
    heard: list[dict] = []
    run = Run(None, {}, seed=0)
    run.listener = heard.append
    run.log("epoch", epoch=0)
    assert heard == run.metrics == [{"kind": "epoch", "epoch": 0}]


def test_a_folder_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    with Run(tmp_path / "run", {}, seed=0), pytest.raises(ResumeError, match="in use by another process"):
        Run(tmp_path / "run", {}, seed=0)
    with Run(tmp_path / "run", {}, seed=0):
        pass


def test_a_signal_after_the_last_step_reaches_the_caller(tmp_path: Path) -> None:
    """What was computed is kept, and a program of many runs does not go on to the next."""
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "run", {}, seed=0) as run:
        list(run.epochs(1, "train"))
        signal.raise_signal(signal.SIGINT)
        run.finish({"done": True})
    assert Run(tmp_path / "run", {}, seed=0).results == {"done": True}
