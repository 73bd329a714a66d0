import errno
import gzip
import hashlib
import io
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopback import Server, serving
from sartor.data import download
from sartor.data.download import Patience, Unreachable, fetch, get
from sartor.data.originals import OFFERS, Offer, Original
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS

CONTENT = np.random.default_rng(0).bytes(300_000)
QUICK = Patience(tries=4, pause=0.0, timeout=5.0)
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def _straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands between this process and its own server."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


def offer_mnist(server: Server) -> Offer:
    """Small files in the form of MNIST's, at the places that MNIST's have."""
    images, labels = np.arange(20 * 16).reshape(20, 4, 4) % 251, np.arange(20) % 10
    contents = [idx(images), idx(labels), idx(images[:5]), idx(labels[:5])]
    files = tuple(server.offer(f"{stem}.gz", content) for stem, content in zip(STEMS, contents, strict=True))
    real = OFFERS["mnist"]
    return Offer(files, real.folder, real.holds, real.places, real.ends)


def offer_cifar(server: Server, *, without: str = "") -> Offer:
    """An archive in the form of CIFAR-10's, whose batches are not looked into."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in (*OFFERS["cifar10"].holds, "batches.meta"):
            if name != without:
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(name)
                tar.addfile(member, io.BytesIO(name.encode()))
    real = OFFERS["cifar10"]
    file = server.offer("cifar-10-python.tar.gz", stream.getvalue())
    return Offer((file,), real.folder, real.holds, real.places, real.ends, real.unpacked)


def test_a_file_comes_whole_and_is_told_of(server: Server, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    file = server.offer("a.bin", CONTENT)
    fetch(file, tmp_path / "a.bin", heard=lambda *told: heard.append(told), patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]
    assert heard[0] == ("a.bin", 0, len(CONTENT))
    assert heard[-1] == ("a.bin", len(CONTENT), len(CONTENT))
    assert [have for _, have, _ in heard] == sorted({have for _, have, _ in heard})
    assert server.asked == [("/a.bin", None)]


@pytest.mark.parametrize("lengths", [True, False])
def test_a_part_is_gone_on_with(server: Server, tmp_path: Path, lengths: bool) -> None:
    server.lengths = lengths
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]
    assert server.asked == [("/a.bin", "bytes=1000-")]


def test_a_whole_part_needs_no_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert names(tmp_path) == ["a.bin"]
    assert server.asked == []


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"?" * 1000)
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a.bin", "bytes=1000-")]


@pytest.mark.parametrize("lengths", [True, False])
def test_a_connection_that_breaks_off_is_gone_on_with(server: Server, tmp_path: Path, lengths: bool) -> None:
    server.cuts, server.lengths = [150_000, 50_000], lengths
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a.bin", None), ("/a.bin", "bytes=150000-"), ("/a.bin", "bytes=200000-")]


@pytest.mark.parametrize("ranges", [True, False])
def test_tries_end_and_the_part_stays(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cuts, server.ranges = [10_000] * 4, ranges
    file = server.offer("a.bin", CONTENT)
    with pytest.raises(
        Unreachable, match=r"broke off 4 times \(the connection ended early\); .* kept in .*a\.bin\.part"
    ):
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert len(server.asked) == 4
    assert names(tmp_path) == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[: 40_000 if ranges else 10_000]
    fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    """What lay there before the call may be at fault, so the file is fetched once more from its beginning."""
    (tmp_path / "a.bin.part").write_bytes(b"another file" * 10)
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [("/a.bin", "bytes=120-"), ("/a.bin", None)]


def test_a_redirection_is_followed_with_the_range(server: Server, tmp_path: Path) -> None:
    server.offer("there.bin", CONTENT)
    server.moved["/a.bin"] = "/there.bin"
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert server.asked == [("/a.bin", "bytes=1000-"), ("/there.bin", "bytes=1000-")]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert server.asked == [("/a.bin", None)]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_wrong_bytes_never_get_the_name(server: Server, tmp_path: Path) -> None:
    file = server.offer("a.bin", CONTENT)
    wrong = server.files["/a.bin"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DataError) as raised:
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert file.sha256 in str(raised.value)
    assert hashlib.sha256(wrong).hexdigest() in str(raised.value)
    assert "thrown away" in str(raised.value)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_wrong_bytes_after_a_part_are_fetched_twice_not_for_ever(server: Server, tmp_path: Path) -> None:
    file = server.offer("a.bin", CONTENT)
    server.files["/a.bin"] = bytes(len(CONTENT))
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:500])
    with pytest.raises(Unreachable, match="not " + file.sha256):
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert [wanted for _, wanted in server.asked] == ["bytes=500-", None]
    assert names(tmp_path) == []


@pytest.mark.parametrize("begun", [b"", CONTENT[:500]])
@pytest.mark.parametrize("gives", [b"<html>please log in</html>" * 30, CONTENT + b"and more"])
def test_another_size_is_told_before_it_is_fetched(server: Server, tmp_path: Path, begun: bytes, gives: bytes) -> None:
    file = server.offer("a.bin", CONTENT)
    server.files["/a.bin"] = gives
    (tmp_path / "a.bin.part").write_bytes(begun)
    with pytest.raises(Unreachable, match=rf"gives {len(gives):,} bytes of .*, not the 300,000 of the original"):
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin.part").read_bytes() == begun


def test_no_more_is_read_than_the_original_has(server: Server, tmp_path: Path) -> None:
    file, server.lengths = server.offer("a.bin", CONTENT[:200_000]), False
    server.files["/a.bin"] = CONTENT
    fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[:200_000]


@pytest.mark.parametrize("code", [404, 403, 410])
def test_a_refusal_is_not_asked_again(server: Server, tmp_path: Path, code: int) -> None:
    server.answers = [code] * 9
    with pytest.raises(Unreachable, match=rf"a\.bin cannot be had \({code} "):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_passing_trouble_is_asked_again(server: Server, tmp_path: Path, code: int) -> None:
    server.answers = [code, code]
    fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    server.answers = [code] * 9
    with pytest.raises(Unreachable, match=rf"broke off 4 times \({code} "):
        fetch(server.offer("b.bin", CONTENT), tmp_path / "b.bin", patience=QUICK)
    assert len(server.asked) == 3 + 4


def test_pauses_are_doubled_up_to_half_a_minute(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(download.time, "sleep", paused.append)
    server.answers = [500] * 8
    with pytest.raises(Unreachable, match="broke off 8 times"):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin")
    assert paused == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("shift", [1, -1])
def test_a_part_that_was_not_asked_for_is_not_written(server: Server, tmp_path: Path, shift: int) -> None:
    server.shift = shift
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(Unreachable, match="another part than it was asked for"):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:1000]


def test_a_range_beyond_the_end_begins_again(server: Server, tmp_path: Path) -> None:
    """The server has a shorter file than when the part was begun; the sum decides."""
    file = server.offer("a.bin", CONTENT)
    server.files["/a.bin"] = CONTENT[:1000]
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:2000])
    with pytest.raises(Unreachable, match="gives 1,000 bytes"):
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert [wanted for _, wanted in server.asked] == ["bytes=2000-", None]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=3),
    begun=st.integers(0, 3000),
    ranges=st.booleans(),
    lengths=st.booleans(),
)
def test_whatever_happens_the_file_is_the_original_or_not_there(
    server: Server, tmp_path: Path, cuts: list[int], begun: int, ranges: bool, lengths: bool
) -> None:
    content, target = CONTENT[:3000], tmp_path / "a.bin"
    target.unlink(missing_ok=True)
    server.cuts, server.ranges, server.lengths = list(cuts), ranges, lengths
    (tmp_path / "a.bin.part").write_bytes(content[:begun])
    fetch(server.offer("a.bin", content), target, patience=QUICK)
    assert target.read_bytes() == content
    assert names(tmp_path) == ["a.bin"]


def test_nobody_there_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: pytest.fail("it waited"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    file = Original(f"http://127.0.0.1:{port}/a.bin", 10, "0" * 64)
    with pytest.raises(Unreachable, match=r"cannot be had \(.*refused"):
        fetch(file, tmp_path / "a.bin")
    file = Original("http://no-such-host.invalid/a.bin", 10, "0" * 64)
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid/a\.bin cannot be had \("):
        fetch(file, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_silence_is_told_after_the_timeout(server: Server, tmp_path: Path) -> None:
    server.silent = threading.Event()
    with pytest.raises(Unreachable, match=r"cannot be had \(timed out\)"):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=Patience(timeout=0.1))


def test_a_proxy_that_refuses_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("https_proxy", server.address)
    file = Original("https://www.cs.toronto.edu/a.bin", 10, "0" * 64)
    with pytest.raises(Unreachable, match=r"cannot be had \(Tunnel connection failed: 403"):
        fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert server.asked == [("www.cs.toronto.edu:443", "CONNECT")]


def test_a_disk_that_fills_keeps_the_part(server: Server, tmp_path: Path) -> None:
    file = server.offer("a.bin", CONTENT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot be written \(.*\); its 100,000 bytes are kept\. Free some space"):
            fetch(file, tmp_path / "a.bin", patience=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:100_000]
    fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert server.asked[-1] == ("/a.bin", "bytes=100000-")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_told_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"a\.bin needs 300,000 bytes, 1,000 are free"):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert server.asked == []


def test_an_interruption_keeps_what_came(server: Server, tmp_path: Path) -> None:
    def interrupt(name: str, have: int, size: int) -> None:
        if have > 100_000:
            raise KeyboardInterrupt

    file = server.offer("a.bin", CONTENT)
    with pytest.raises(KeyboardInterrupt):
        fetch(file, tmp_path / "a.bin", heard=interrupt, patience=QUICK)
    kept = (tmp_path / "a.bin.part").read_bytes()
    assert len(kept) > 100_000
    assert kept == CONTENT[: len(kept)]
    assert names(tmp_path) == ["a.bin.part"]
    fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert server.asked[-1] == ("/a.bin", f"bytes={len(kept)}-")


def test_files_of_their_own_come_to_where_the_reader_looks(server: Server, tmp_path: Path) -> None:
    offers = {"mnist": offer_mnist(server)}
    assert get("mnist", tmp_path, offers=offers, patience=QUICK)
    assert names(tmp_path) == [".mnist.fetching", "MNIST"]
    assert names(tmp_path / "MNIST" / "raw") == sorted(f"{stem}.gz" for stem in STEMS)
    splits = DATASETS.build("mnist", root=tmp_path)
    assert (len(splits.train), len(splits.test)) == (20, 5)
    server.asked.clear()
    assert not get("mnist", tmp_path, offers=offers, patience=QUICK)
    assert server.asked == []


def test_only_what_is_missing_is_fetched(server: Server, tmp_path: Path) -> None:
    """Unpacked files serve as well as packed ones, in any place that the reader knows."""
    offer = offer_mnist(server)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / STEMS[0]).write_bytes(gzip.decompress(server.files[f"/{STEMS[0]}.gz"]))
    (tmp_path / f"{STEMS[3]}.gz").write_bytes(server.files[f"/{STEMS[3]}.gz"])
    assert get("mnist", tmp_path, offers={"mnist": offer}, patience=QUICK)
    assert [path for path, _ in server.asked] == [f"/{STEMS[1]}.gz", f"/{STEMS[2]}.gz"]
    assert len(DATASETS.build("mnist", root=tmp_path).train) == 20


def test_a_file_that_is_there_is_checked(server: Server, tmp_path: Path) -> None:
    offer = offer_mnist(server)
    for stem in STEMS:
        (tmp_path / f"{stem}.gz").write_bytes(server.files[f"/{stem}.gz"])
    assert not get("mnist", tmp_path, offers={"mnist": offer}, patience=QUICK)
    (tmp_path / f"{STEMS[2]}.gz").write_bytes(server.files[f"/{STEMS[2]}.gz"][:-3])
    with pytest.raises(DataError, match=rf"{STEMS[2]}\.gz has the SHA-256 \w+, not {offer.files[2].sha256}"):
        get("mnist", tmp_path, offers={"mnist": offer}, patience=QUICK)
    assert server.asked == []


def test_an_archive_is_unpacked_and_kept(server: Server, tmp_path: Path) -> None:
    offers = {"cifar10": offer_cifar(server)}
    assert get("cifar10", tmp_path / "new", offers=offers, patience=QUICK)
    assert names(tmp_path / "new") == [".cifar10.fetching", "cifar-10-batches-py", "cifar-10-python.tar.gz"]
    assert (tmp_path / "new" / "cifar-10-batches-py" / "data_batch_3").read_text() == "data_batch_3"
    (tmp_path / "new" / "cifar-10-python.tar.gz").unlink()
    assert not get("cifar10", tmp_path / "new", offers=offers, patience=QUICK)
    assert len(server.asked) == 1


def test_an_archive_put_there_by_hand_is_checked_and_unpacked(server: Server, tmp_path: Path) -> None:
    offers = {"cifar10": offer_cifar(server)}
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half an archive")
    with pytest.raises(DataError, match=r"has the SHA-256 .*; move it away"):
        get("cifar10", tmp_path, offers=offers, patience=QUICK)
    assert archive.read_bytes() == b"half an archive"
    archive.write_bytes(server.files["/cifar-10-python.tar.gz"])
    assert get("cifar10", tmp_path, offers=offers, patience=QUICK)
    assert server.asked == []
    assert (tmp_path / "cifar-10-batches-py" / "test_batch").is_file()


def test_a_folder_that_is_there_in_part_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_text("mine")
    with pytest.raises(DataError, match=r"cifar-10-batches-py is there, but without data_batch_2, .*; move it away"):
        get("cifar10", tmp_path, offers={"cifar10": offer_cifar(server)}, patience=QUICK)
    assert server.asked == []
    assert names(tmp_path / "cifar-10-batches-py") == ["data_batch_1"]


def test_an_archive_that_lacks_a_file_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test_batch is not in it"):
        get("cifar10", tmp_path, offers={"cifar10": offer_cifar(server, without="test_batch")}, patience=QUICK)


def test_what_cannot_be_reached_is_told_how_to_fetch_by_hand(server: Server, tmp_path: Path) -> None:
    offer = offer_mnist(server)
    server.answers = [200, 404]
    with pytest.raises(Unreachable) as raised:
        get("mnist", tmp_path, offers={"mnist": offer}, patience=QUICK)
    text = str(raised.value)
    assert "\n" not in text
    assert f"{offer.files[1].address} cannot be had (404 Not Found)." in text
    addresses = ", ".join(file.address for file in offer.files[1:])
    assert f"fetch {addresses} into {tmp_path}/MNIST/raw" in text
    assert f"--data mnist --root {tmp_path}" in text
    for file in offer.files[1:]:  # following the words
        (tmp_path / "MNIST" / "raw" / file.name).write_bytes(server.files[f"/{file.name}"])
    assert not get("mnist", tmp_path, offers={"mnist": offer}, patience=QUICK)
    assert len(DATASETS.build("mnist", root=tmp_path).train) == 20


def test_two_at_once_are_refused(server: Server, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".mnist.fetching"), pytest.raises(DataError, match="by another process"):
        get("mnist", tmp_path, offers={"mnist": offer_mnist(server)}, patience=QUICK)
    assert server.asked == []


def test_the_lock_is_the_same_file_for_all(server: Server, tmp_path: Path) -> None:
    """Taken away before it is released, it could be held by one process while another locks a new file of its name."""
    lock, seen = tmp_path / ".mnist.fetching", set()
    get("mnist", tmp_path, offers={"mnist": offer_mnist(server)}, heard=lambda *_: seen.add(lock.stat().st_ino))
    assert seen == {lock.stat().st_ino}
    with FileLock(lock, timeout=0):
        pass


def test_a_root_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.* cannot be made .* choose another --root"):
        get("mnist", tmp_path / "file", offers={"mnist": offer_mnist(server)}, patience=QUICK)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("imagenet", r"image-net\.org.*images/train/WNID/ and images/val/WNID/"),
        ("digits", "comes with scikit-learn"),
        ("imagefolder", "known: cifar10, cifar100, mnist"),
        ("cifar", r"Did you mean 'cifar10\d?'\?"),
    ],
)
def test_what_cannot_be_fetched_is_told(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        get(name, Path("images"))


def test_a_killed_program_goes_on(server: Server, tmp_path: Path) -> None:
    """A signal that leaves no time for anything leaves what was written, and no lock."""
    offer = offer_mnist(server)
    content = CONTENT * 20
    file = server.offer(offer.files[0].name, content)
    program = f"""
import os, signal
from pathlib import Path
from sartor.data.download import fetch
from sartor.data.originals import Original
def heard(name, have, size):
    if have > 1_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
fetch({file!r}, Path({str(tmp_path / "a.bin")!r}), heard=heard)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    begun = os.stat(tmp_path / "a.bin.part").st_size
    assert begun > 1_000_000
    fetch(file, tmp_path / "a.bin", patience=QUICK)
    assert server.asked[-1][1] == f"bytes={begun}-"
    assert (tmp_path / "a.bin").read_bytes() == content


def test_errors_of_the_file_system_are_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(download.os, "replace", refuse)
    with pytest.raises(DataError, match=r"a\.bin\.part cannot be renamed \(Permission denied\)"):
        fetch(server.offer("a.bin", CONTENT), tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").mkdir()
    with pytest.raises(DataError, match=r"b\.bin\.part"):
        fetch(server.offer("b.bin", CONTENT), tmp_path / "b.bin", patience=QUICK)
