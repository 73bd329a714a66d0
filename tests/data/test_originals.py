import hashlib
import re
import shutil
from pathlib import Path

import pytest
from test_cifar import write_python_10, write_python_100
from test_folders import write_tiny

from sartor.data.download import get
from sartor.data.originals import NOT_OFFERED, OFFERS, Offer, Original
from sartor.registry import DATASETS

WRITERS = {"cifar10": write_python_10, "cifar100": write_python_100, "tinyimagenet": write_tiny}


@pytest.mark.parametrize("name", OFFERS)
def test_every_offer_is_complete(name: str) -> None:
    offer = OFFERS[name]
    assert name in DATASETS
    for file in offer.files:
        assert re.fullmatch(r"https?://[\w.-]+/[\w./~-]+", file.address)
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.size > 1000
    assert len({file.sha256 for file in offer.files}) == len(offer.files)
    assert offer.unpacked is None or (len(offer.files) == 1 and offer.unpacked in offer.places)


def test_data_sets_are_offered_or_it_is_said_why_not() -> None:
    own = {"imagefolder", "manifest", "csv", "npz", "text"}
    assert set(DATASETS) >= set(OFFERS) | set(NOT_OFFERED)
    assert not set(OFFERS) & (set(NOT_OFFERED) | own)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("below", [True, False])
def test_what_is_held_is_what_the_reader_reads(tmp_path: Path, name: str, below: bool) -> None:
    """A set counts as there where its reader can read it, in the folder of the archive or in root itself."""
    offer, root = OFFERS[name], tmp_path / "data"
    assert offer.missing(root) == list(offer.holds)
    WRITERS[name](root / str(offer.unpacked) if below else root)
    assert offer.missing(root) == []
    assert len(DATASETS.build(name, root=root).train) > 0
    lost = offer.find(root, offer.holds[0])
    assert lost is not None
    lost.unlink()
    assert offer.missing(root) == [offer.holds[0]]


@pytest.mark.parametrize("name", WRITERS)
def test_an_archive_put_into_root_is_found_by_its_reader(tmp_path: Path, name: str) -> None:
    real = OFFERS[name]
    assert real.unpacked is not None
    WRITERS[name](tmp_path / "made" / real.unpacked)
    kind = "zip" if real.files[0].name.endswith(".zip") else "gztar"
    made = shutil.make_archive(str(tmp_path / "made"), kind, tmp_path / "made", real.unpacked)
    content = Path(made).read_bytes()
    file = Original(real.files[0].address, len(content), hashlib.sha256(content).hexdigest())
    offer = Offer((file,), real.folder, real.holds, real.places, real.ends, real.unpacked)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / file.name).write_bytes(content)
    assert get(name, tmp_path / "data", offers={name: offer})
    assert len(DATASETS.build(name, root=tmp_path / "data").train) > 0


def test_a_folder_called_train_is_not_cifar(tmp_path: Path) -> None:
    """ImageNet's train lies in the same root, and is no file."""
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert OFFERS["cifar100"].missing(tmp_path) == ["train", "test"]


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_sums_and_sizes_are_those_of_the_original_files(real_data: Path, name: str) -> None:
    offer = OFFERS[name]
    root = real_data / name
    assert not get(name, root)
    for file in offer.files:
        found = offer.find(root, file.name.removesuffix(".gz"))
        assert found is not None
        assert found.name == file.name, "the packed file is needed for its sum"
        assert found.stat().st_size == file.size
