import dataclasses
import gzip
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import call, done, refused
from rich.console import Console

import sartor.cli.data
from loopback import Server, serving
from sartor.cli.data import Lines, progress
from sartor.data.originals import OFFERS, Offer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that gives small files as MNIST's, to a command that works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        files = []
        for stem in OFFERS["mnist"].holds:
            array = (np.arange(20 * 64) % 251).reshape(20, 8, 8) if "images" in stem else np.arange(20) % 10
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            files.append(running.offer(f"{stem}.gz", gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)))
        offer = dataclasses.replace(OFFERS["mnist"], files=tuple(files))
        monkeypatch.setattr(sartor.cli.data, "OFFERS", {"mnist": offer, "cifar10": OFFERS["cifar10"]})
        yield running


def test_get_fetches_and_training_finds_it(server: Server) -> None:
    out = done("data", "get", "mnist").out
    assert re.search(r"(?m)^train-images-idx3-ubyte\.gz: \d+\.\d of \d+\.\d MB, \d+\.\d MB/s$", out)
    assert out.splitlines()[-1] == "mnist is there: --data mnist"
    done("train", "dense", "--data", "mnist", "--model", "cnn(width=2)", "--epochs", "1", "--dry-run")
    server.asked.clear()
    assert done("data", "get", "mnist").out == "mnist was there already; nothing was fetched: --data mnist\n"
    assert server.asked == []


def test_another_root_is_told_in_the_flags(server: Server) -> None:
    assert done("data", "get", "mnist", "--root", "elsewhere").out.endswith("--data mnist --root elsewhere\n")
    assert Path("elsewhere/MNIST/raw/t10k-labels-idx1-ubyte.gz").is_file()
    assert not Path("data").exists()


def test_list_tells_size_address_and_what_is_there(server: Server) -> None:
    assert re.search(r"(?m)^mnist +0\.0 MB  not there  http://127\.0\.0\.1:\d+$", done("data", "list").out)
    done("data", "get", "mnist")
    lines = done("data", "list").out.splitlines()
    assert re.match(r"mnist +0\.0 MB  there +http", lines[0])
    assert re.match(r"cifar10 +170\.5 MB  not there  https://www\.cs\.toronto\.edu/.*\.tar\.gz$", lines[1])
    Path("data/MNIST/raw/t10k-labels-idx1-ubyte.gz").unlink()
    assert "in part" in done("data", "list").out
    assert "not there" in done("data", "list", "--root", "elsewhere").out.splitlines()[0]


def test_what_cannot_be_fetched_exits_2_with_one_line(server: Server) -> None:
    server.answers = [404]
    ended = call("data", "get", "mnist")
    assert ended.code == 2
    assert re.search(r"cannot be had \(404 Not Found\)\. By hand: fetch .* into data/MNIST/raw;", ended.message)
    for words, message in (
        (("get", "mnst"), r"'mnst' is no data set that can be fetched; known: .*Did you mean 'mnist'\?$"),
        (("get", "imagenet"), r"image-net\.org.*data/train/WNID/"),
        (("get",), r"^name a data set: sartor data get NAME; known: mnist, cifar10\.$"),
        (("get", "mnist", "--rot", "x"), r"--rot.*Did you mean: --root"),
        (("fetch", "mnist"), r"sartor data is given 'fetch'; it must be get NAME, or list"),
    ):
        assert re.search(message, refused("data", *words))


def test_help_is_told() -> None:
    for words in ((), ("--help",)):
        assert "usage: sartor data get NAME" in done("data", *words).out
    for words in (("get", "--help"), ("list", "--help")):
        with pytest.raises(SystemExit) as ended:
            call("data", *words)
        assert ended.value.code == 0


def test_lines_come_now_and_then_with_the_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 4.0, 11.0, 12.0, 20.0])
    monkeypatch.setattr(sartor.cli.data.time, "monotonic", lambda: next(now))
    heard = Lines()
    for have in (1e6, 2e6, 12e6, 20e6, 100e6):
        heard("a.gz", int(have), 100_000_000)
    assert capsys.readouterr().out.splitlines() == [
        "a.gz: 12.0 of 100.0 MB, 1.0 MB/s",
        "a.gz: 100.0 of 100.0 MB, 5.0 MB/s",
    ]


def test_a_terminal_gets_bars() -> None:
    screen = io.StringIO()
    with progress(Console(file=screen, force_terminal=True, width=100)) as heard:
        heard("a.gz", 0, 2_000_000)
        heard("a.gz", 2_000_000, 2_000_000)
        heard("b.gz", 1_000_000, 4_000_000)
    assert "2.0/2.0 MB" in screen.getvalue()
    assert "1.0/4.0 MB" in screen.getvalue()


def test_ctrl_c_keeps_the_part_and_exits_75(server: Server, tmp_path: Path) -> None:
    offer: Offer = sartor.cli.data.OFFERS["mnist"]
    content = np.random.default_rng(0).bytes(3_000_000)
    file = server.offer(offer.files[0].name, content)
    server.cuts = [1_000_000]
    server.answers = [200, 503, 503, 503]  # so that it waits
    program = f"""
import sys
import sartor.cli.data
from sartor.cli import main
from sartor.data.originals import Offer, Original
sartor.cli.data.OFFERS = {{"mnist": {dataclasses.replace(offer, files=(file, *offer.files[1:]))!r}}}
print("ready", flush=True)
sys.exit(main(["data", "get", "mnist"]))
"""
    environment = {"PATH": "", "no_proxy": "*"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    )
    with process:
        for _ in range(400):
            if len(server.asked) >= 2:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert err.strip() == "sartor: interrupted. Give the same command again to go on."
    part = tmp_path / "data" / "MNIST" / "raw" / f"{file.name}.part"
    assert part.read_bytes() == content[:1_000_000]
