"""Two processes at one folder, a lock that was left behind, a report that is made while a run writes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
from command_line import COMPARE, DENSE, call, write_images
from meddling import Change, meddled
from tiny import RECIPE, content, covers, fit, in_child, one_line, outcome, stop_after, unbroken

from sartor.errors import ResumeError
from sartor.report.collect import collect
from sartor.run import Run

HOLDER = """
import sys, time
from pathlib import Path
from sartor.run import Run

with Run(Path(sys.argv[1]), {}, seed=0):
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


@covers("two processes with one run folder")
def test_the_second_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    """The second comes in the middle of the first, again and again."""
    folder, seen = tmp_path / "run", []

    def second(change: Change) -> None:
        if change.number % 40 == 15:
            child = in_child(lambda: fit(folder))
            seen.append(child)

    with meddled(folder, second):
        fit(folder)
    assert len(seen) >= 3
    assert set(seen) == {2}, "exit code of a SartorError"
    assert outcome(folder) == unbroken()


@covers("two processes with one run folder", ".lock left behind or damaged")
def test_the_lock_of_another_process_and_one_left_behind_by_a_kill(tmp_path: Path) -> None:
    folder, ready = tmp_path / "run", tmp_path / "ready"
    stop_after(folder, 5)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER.replace("{}", "{'a': 1}"), tmp_path / "other", ready]
    ) as holder:
        while not ready.exists():
            assert holder.poll() is None
            time.sleep(0.02)
        with pytest.raises(ResumeError, match="other is in use by another process; wait for it, or use another --out"):
            Run(tmp_path / "other", {"a": 1}, seed=0)
        holder.kill()
    assert (tmp_path / "other" / ".lock").exists()
    with Run(tmp_path / "other", {"a": 1}, seed=0):
        pass
    (folder / ".lock").write_text("12345")
    fit(folder)
    assert outcome(folder) == unbroken()


@covers("two processes with one run folder")
def test_a_refused_start_does_not_keep_the_folder(tmp_path: Path) -> None:
    """Another configuration is refused; the right one is taken at once, in the same process."""
    folder = tmp_path / "run"
    with Run(folder, {"a": 1}, seed=0) as run:
        run.save()
    with pytest.raises(ResumeError, match="a was 1, is now 2") as caught:
        Run(folder, {"a": 2}, seed=0)
    one_line(caught.value)
    with Run(folder, {"a": 1}, seed=0):
        pass


@covers("a finished run read by several processes")
def test_a_finished_run_is_read_without_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    results = fit(folder).results
    before = content(folder)
    with Run(tmp_path / "holder", {}, seed=0):
        pass
    from filelock import FileLock

    with FileLock(folder / ".lock"):
        assert fit(folder).results == results
    assert content(folder) == before


@covers("a report made while a run writes")
def test_a_report_that_is_made_while_a_run_writes(tmp_path: Path) -> None:
    """At any moment: the run that is under way is left out and named, or it is finished and whole."""
    done, folder, states = tmp_path / "runs" / "seed-0", tmp_path / "runs" / "seed-1", set()
    fit(done)

    def look(change: Change) -> None:
        if change.number % 7 == 0 or change.path.name == "results.json" or change.kind == "unlink":
            found = collect([tmp_path / "runs"])
            states.add((len(found.runs), found.warnings))

    with meddled(folder, look):
        fit(folder, recipe=RECIPE.with_options(seed=RECIPE.seed + 1))
    unfinished = f"{folder} holds an unfinished run and was left out; start it again to finish it."
    assert states >= {(1, (unfinished,)), (2, ())}
    assert states <= {(1, ()), (1, (unfinished,)), (2, ())}


@covers("compare.json damaged")
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"arms": 5}', '{"options": [], "arms": ["none"]}', None])
def test_a_damaged_compare_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """The runs are there and are not made again; the list of runs is written anew, and other commands add theirs."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    monkeypatch.setattr("sartor.cli.compare.write_report", lambda *_: pytest.fail("nothing to report"))
    monkeypatch.setattr("sartor.cli.compare.execute", lambda jobs, workers: len(jobs))
    ended = call(*COMPARE, "--arms", "dense", "--seeds", "2", "--out", "all")
    assert ended.message == "2 of 2 runs failed, see above; nothing is left to report on."
    path = tmp_path / "all" / "compare.json"
    before = path.read_bytes()
    (tmp_path / "all" / "noise-0").mkdir()
    if text is None:
        path.write_bytes(before.replace(b"dense", b"dance"))
    else:
        path.write_text(text)
    ended = call(*COMPARE, "--arms", "dense", "--seeds", "2", "--out", "all")
    assert "compare.json is damaged and written anew for this command; the runs are untouched." in ended.err
    assert path.read_bytes() == before
    assert path.with_name("compare.json.damaged").exists()
    (tmp_path / "all" / "report.html").touch()
    config = tmp_path / "all" / "noise-0" / "dense" / "seed-0" / "config.json"
    config.parent.mkdir(parents=True)
    config.touch()
    path.unlink()
    call(*COMPARE, "--arms", "dense", "--seeds", "2", "--out", "all")
    assert path.read_bytes() == before, "one that is missing is written too"
    assert "damaged" not in call(*COMPARE, "--arms", "dense", "--seeds", "2", "--out", "all").err


@covers("the first process of a comparison killed (kill -9)")
def test_a_worker_looks_whether_the_first_process_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from sartor import comparison

    first = mock.Mock(**{"is_alive.return_value": True})
    monkeypatch.setattr(comparison.multiprocessing, "parent_process", lambda: first)
    assert not comparison.stopped(), "this is no worker"
    monkeypatch.setattr(comparison, "_stop", mock.Mock(**{"is_set.return_value": False}))
    assert not comparison.stopped()
    first.is_alive.return_value = False
    assert comparison.stopped()


@pytest.mark.slow
@covers("the first process of a comparison killed (kill -9)")
def test_workers_end_when_the_first_process_is_killed(tmp_path: Path) -> None:
    """They save and end, so that the same command finds the runs free."""
    place = tmp_path
    write_images(place / "images")
    command = [sys.executable, "-m", "sartor", *COMPARE, "--arms", "dense", "swast-cut", "--seeds", "1", "--jobs", "2"]
    command = [*command, "--epochs", "4000", "--out", "all"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        list(map(str, command)), cwd=place, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        until(lambda: len(list(place.glob("all/**/metrics.jsonl"))) == 2, first)
        first.send_signal(signal.SIGKILL)
        first.wait()
    configs = list(place.glob("all/**/config.json"))
    until(lambda: all(free(config.parent) for config in configs))
    assert len(list(place.glob("all/**/last.pt"))) == 2, "they have saved"


def free(folder: Path) -> bool:
    """Tell whether no process holds a run folder."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / ".lock", timeout=0):
            return True
    except Timeout:
        return False


def until(condition, process: subprocess.Popen | None = None, patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert process is None or process.poll() is None, "it ended too early"
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


@covers("two processes with one run folder")
def test_in_the_shell_it_is_one_line_and_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    ended = []

    def second(change: Change) -> None:
        if change.number == 30:
            ended.append(call(*DENSE, "--out", "run"))

    with meddled(tmp_path / "run", second):
        assert call(*DENSE, "--save-every", "0", "--out", "run").code == 0
    assert ended[0].code == 2
    assert ended[0].message == "run is in use by another process; wait for it, or use another --out."
