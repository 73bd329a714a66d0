from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_pictures import KINDS, pixels_of, write_folder
from PIL import Image

from sartor.data import Augment, Preprocess, Splits, kept_survey, pictures
from sartor.data.folders import imagefolder, imagenet, tinyimagenet
from sartor.data.images import Decoder
from sartor.data.opening import open_data
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS


def of(splits: Splits) -> tuple[list[str], list[str]]:
    """Ids of the training and of the test samples."""
    return splits.train.ids_of(splits.train.rows), splits.test.ids_of(splits.test.rows)


class TestLayouts:
    def test_class_folders_alone_get_a_fixed_stratified_test_set(self, tmp_path: Path) -> None:
        made = imagefolder(write_folder(tmp_path))
        assert (len(made.train), len(made.test)) == (24, 6)
        assert made.test.class_counts().tolist() == [2, 2, 2]
        assert made.train.class_names == KINDS
        train, test = of(made)
        assert sorted(train + test) == [f"{kind}/{number:03d}.png" for kind in KINDS for number in range(10)]
        assert of(imagefolder(tmp_path)) == (train, test)
        assert not made.augment
        assert made.skipped == ()
        assert len(imagefolder(tmp_path, test=0.5).test) == 15

    def test_the_split_depends_on_ids_alone(self, tmp_path: Path) -> None:
        first = imagefolder(write_folder(tmp_path / "a"))
        for kind in reversed(KINDS):
            for path in sorted((tmp_path / "a" / kind).iterdir(), reverse=True):
                (tmp_path / "b" / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / "b" / kind)
        second = imagefolder(tmp_path / "b")
        assert of(first) == of(second)
        assert first.train.fingerprint() == second.train.fingerprint()

    @pytest.mark.parametrize("held", ["test", "val", "valid", "validation"])
    def test_parts_of_their_own(self, tmp_path: Path, held: str) -> None:
        write_folder(tmp_path / "train", 4)
        write_folder(tmp_path / held, 2)
        (tmp_path / "notes").mkdir()
        train, test = of(imagefolder(tmp_path))
        assert train == [f"train/{kind}/{number:03d}.png" for kind in KINDS for number in range(4)]
        assert test == [f"{held}/{kind}/{number:03d}.png" for kind in KINDS for number in range(2)]
        with pytest.raises(ConfigError, match=r"test is 0\.3, but the data have a test set of their own"):
            imagefolder(tmp_path, test=0.3)

    @pytest.mark.parametrize(("trained", "held"), [("Training", "Testing"), ("TRAIN", "Val"), ("train", "evaluation")])
    def test_parts_in_other_spellings_are_no_classes(self, tmp_path: Path, trained: str, held: str) -> None:
        """As classes they would put the test pictures into training, under the label of their part."""
        write_folder(tmp_path / trained, 4)
        write_folder(tmp_path / held, 2)
        for made in (imagefolder(tmp_path), open_data(str(tmp_path))):
            assert made.train.class_names == KINDS
            assert {name.split("/")[0] for name in of(made)[0]} == {trained}
            assert {name.split("/")[0] for name in of(made)[1]} == {held}

    @pytest.mark.parametrize("stranger", ["holdout", "train2", "test_set"])
    def test_a_part_of_unknown_name_is_refused(self, tmp_path: Path, stranger: str) -> None:
        write_folder(tmp_path / "train", 2)
        write_folder(tmp_path / stranger, 2)
        with pytest.raises(DataError, match=rf"{stranger} has the classes of train, but its name tells no part; known"):
            imagefolder(tmp_path)

    def test_two_parts_for_training_are_refused(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 2)
        write_folder(tmp_path / "Training", 2)
        with pytest.raises(DataError, match="has Training and train; keep one"):
            imagefolder(tmp_path)

    def test_folders_that_all_hold_the_same_folders_are_no_classes(self, tmp_path: Path) -> None:
        for part in ("part1", "part2"):
            write_folder(tmp_path / part, 2)
        with pytest.raises(DataError, match=r"each of part1, part2 in .* holds the same folders \(cat, dog, owl\): if"):
            imagefolder(tmp_path)
        Image.new("RGB", (12, 12)).save(tmp_path / "part1" / "own.png")
        assert imagefolder(tmp_path).train.class_names == ("part1", "part2")

    def test_one_folder_below_each_class_is_no_part(self, tmp_path: Path) -> None:
        for kind in KINDS:
            write_folder(tmp_path / kind, 2, kinds=("images",))
        assert imagefolder(tmp_path).train.class_names == KINDS

    def test_a_second_part_is_named_and_left_alone(self, tmp_path: Path) -> None:
        for part in ("train", "test", "val"):
            write_folder(tmp_path / part, 2)
        with pytest.warns(UserWarning, match="the data have test and val; test is the test set"):
            made = imagefolder(tmp_path)
        assert {name.split("/")[0] for name in made.train.ids} == {"train", "test"}

    def test_a_train_folder_alone_is_cut(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train")
        (tmp_path / "test").mkdir()
        Image.new("RGB", (12, 12)).save(tmp_path / "test" / "unlabelled.png")
        train, test = of(imagefolder(tmp_path))
        assert (len(train), len(test)) == (24, 6)
        assert all(name.startswith("train/") for name in train + test)

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        made = imagefolder(write_folder(tmp_path, 5, kinds=("bus", "train")))
        assert made.train.class_names == ("bus", "train")

    def test_nested_files_links_and_strangers(self, tmp_path: Path) -> None:
        write_folder(tmp_path, 4)
        (tmp_path / "cat" / "more" / "still").mkdir(parents=True)
        shutil.copy(tmp_path / "cat" / "000.png", tmp_path / "cat" / "more" / "still" / "deep.PNG")
        (tmp_path / "cat" / "more" / "back").symlink_to(tmp_path / "cat")
        (tmp_path / "cat" / ".hidden.png").write_bytes(b"no picture")
        (tmp_path / ".cache").mkdir()
        (tmp_path / "dog" / "labels.txt").write_text("no picture")
        made = imagefolder(tmp_path)
        assert made.train.class_names == KINDS
        assert len(made.train.ids) == 13
        assert "cat/more/still/deep.PNG" in made.train.ids

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda root: (root / "README").touch(), r"has 0 class folders .*CLASS/\.\.\., or in train/CLASS"),
            (lambda root: write_folder(root, kinds=("images",)), "has 1 class folders and needs 2 or more"),
            (lambda root: (write_folder(root) / "ox").mkdir(), r"ox holds no picture .*take the folder away"),
            (
                lambda root: (write_folder(root / "train"), write_folder(root / "val", kinds=("cat", "yak"))),
                "val/yak is a class that .*train does not have",
            ),
        ],
    )
    def test_other_folders_are_refused(self, tmp_path: Path, build: object, message: str) -> None:
        build(tmp_path)  # type: ignore[operator]
        with pytest.raises(DataError, match=message):
            imagefolder(tmp_path)

    def test_no_folder_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="--root DIR"):
            imagefolder()
        with pytest.raises(DataError, match="nowhere is no folder"):
            imagefolder(tmp_path / "nowhere")


class TestPixels:
    def test_pixels_labels_and_normalisation(self, tmp_path: Path) -> None:
        made = imagefolder(write_folder(tmp_path))
        for kind, name in enumerate(KINDS):
            for number in (0, 9):
                row = made.train.ids.index(f"{name}/{number:03d}.png")
                assert np.array_equal(made.train.inputs[row], pixels_of(kind, number).transpose(2, 0, 1))  # type: ignore[index]
                assert made.train.targets_of(torch.tensor([row])).item() == kind
        measured = Preprocess.measure(made.train.inputs[made.train.rows])  # type: ignore[index]
        assert made.train.preprocess.mean == pytest.approx(measured.mean, abs=1e-12)
        assert made.train.preprocess.std == pytest.approx(measured.std, abs=1e-12)
        assert made.test.preprocess == made.train.preprocess

    def test_a_channel_of_one_value_has_std_1(self, tmp_path: Path) -> None:
        for kind in KINDS[:2]:
            (tmp_path / kind).mkdir()
            for number in range(5):
                Image.new("RGB", (3, 3), (51, 0, 255)).save(tmp_path / kind / f"{number}.png")
        assert imagefolder(tmp_path).train.preprocess == Preprocess((0.2, 0.0, 1.0), (1.0, 1.0, 1.0))

    def test_mixed_sizes_are_counted_and_the_cure_works(self, tmp_path: Path) -> None:
        write_folder(tmp_path, 12, mixed=True)
        with pytest.raises(
            DataError, match=r'the 36 pictures have 12 sizes .*: 12 x 12 \(3\), .*"imagefolder\(size=64\)" --root /'
        ):
            imagefolder(tmp_path)
        for resize in ("crop", "squash", "pad"):
            made = DATASETS.build(f"imagefolder(size=8, resize={resize})", root=tmp_path)
            assert made.train.input_shape == (3, 8, 8)
            for row in (0, 17, 35):
                expected = Decoder(8, resize)(tmp_path / made.train.ids[row])
                assert np.array_equal(made.train.inputs[row], expected)
        assert DATASETS.build("imagefolder(size=8, channels=1)", root=tmp_path).train.input_shape == (1, 8, 8)

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("imagefolder(resize=pad)", "no effect without a size"),
            ("imagefolder(streamed=perhaps)", "streamed is 'perhaps'; it must be true, false"),
            ("imagefolder(unreadable=ignore)", "unreadable is 'ignore'; it must be one of refuse, skip"),
            ("imagefolder(test=0)", r"test is 0; it must lie in \(0, 1\)"),
            ("imagefolder(sise=8)", "Did you mean 'size'"),
        ],
    )
    def test_wrong_options(self, tmp_path: Path, spec: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            DATASETS.build(spec, root=write_folder(tmp_path, 2))


@pytest.mark.parametrize("streamed", [False, True])
class TestUnreadable:
    def damage(self, root: Path) -> None:
        write_folder(root)
        path = root / "cat" / "003.png"
        path.write_bytes(path.read_bytes()[:100])
        (root / "dog" / "005.png").write_bytes(b"")
        (root / "owl" / "007.jpg").write_text("<html>not found</html>")

    def test_they_are_listed_and_counted(self, tmp_path: Path, streamed: bool) -> None:
        self.damage(tmp_path)
        with pytest.raises(
            DataError, match=r"3 of 31 pictures cannot be read: cat/003.png \(.*dog/005.png \(the file is empty\), owl"
        ) as caught:
            imagefolder(tmp_path, streamed=streamed)
        assert 'with --data "imagefolder(unreadable=skip)" --root' in str(caught.value)

    def test_they_can_be_left_out_and_are_recorded(self, tmp_path: Path, streamed: bool) -> None:
        self.damage(tmp_path)
        with pytest.warns(UserWarning, match="3 of 31 pictures cannot be read: .*they are left out"):
            made = imagefolder(tmp_path, unreadable="skip", streamed=streamed)
        assert [name for name, _ in made.skipped] == ["cat/003.png", "dog/005.png", "owl/007.jpg"]
        assert made.skipped[1][1] == "the file is empty"
        assert len(made.train.ids) == 28
        assert not {name for name, _ in made.skipped} & set(made.train.ids)
        row = made.train.ids.index("dog/006.png")
        expected = torch.from_numpy(pixels_of(1, 6).transpose(2, 0, 1).copy())[None]
        assert torch.equal(made.train.gather(torch.tensor([row])), made.train.preprocess(expected))  # type: ignore[arg-type,misc]

    def test_none_can_be_read(self, tmp_path: Path, streamed: bool) -> None:
        for path in write_folder(tmp_path, 2).rglob("*.png"):
            path.write_bytes(b"")
        for spec in ("imagefolder(unreadable=skip)", "imagefolder(unreadable=skip, size=8)"):
            with pytest.raises(DataError, match=r"none of the 6 pictures can be read"):
                DATASETS.build(spec, root=tmp_path, streamed=streamed)


class TestStreaming:
    def test_what_would_take_too_much_memory_is_streamed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_folder(tmp_path)
        monkeypatch.setattr(pictures, "RESIDENT_BYTES", 30 * 3 * 12 * 12)
        assert not imagefolder(tmp_path).train.streamed
        monkeypatch.setattr(pictures, "RESIDENT_BYTES", 30 * 3 * 12 * 12 - 1)
        assert imagefolder(tmp_path).train.streamed
        assert not imagefolder(tmp_path, streamed=False).train.streamed
        assert not imagefolder(tmp_path, size=6).train.streamed

    @pytest.mark.parametrize("options", [{}, {"size": 7, "resize": "pad"}, {"size": 9, "channels": 1}])
    def test_streamed_pools_are_those_in_memory(self, tmp_path: Path, options: dict[str, object]) -> None:
        write_folder(tmp_path, mixed=bool(options))
        resident, streamed = (imagefolder(tmp_path, streamed=flag, **options) for flag in (False, True))  # type: ignore[arg-type]
        for part in ("train", "test"):
            first, second = getattr(resident, part), getattr(streamed, part)
            assert second.streamed
            assert first.fingerprint() == second.fingerprint()
            assert first.preprocess == second.preprocess
            assert first.input_shape == second.input_shape
            assert torch.equal(first.rows, second.rows)
            assert torch.equal(first.gather(first.rows), second.gather(second.rows))


class TestKeptSurvey:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(kept_survey, "WORTH_KEEPING", 20)
        monkeypatch.setenv("SARTOR_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def test_pictures_are_looked_at_once(self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = write_folder(tmp_path / "pets")
        (root / "owl" / "bad.png").write_bytes(b"")
        with pytest.warns(UserWarning, match="looking through 31 pictures once"):
            first = imagefolder(root, unreadable="skip", streamed=True)
        assert len(list(cache.iterdir())) == 1

        def never(*_: object, **__: object) -> None:
            raise AssertionError("looked at again")

        monkeypatch.setattr(kept_survey, "survey", never)
        with pytest.warns(UserWarning, match="1 of 31 pictures cannot be read"):
            second = imagefolder(root, unreadable="skip", streamed=True)
        assert second.skipped == first.skipped
        assert second.train.fingerprint() == first.train.fingerprint()
        assert second.train.preprocess == first.train.preprocess
        with pytest.raises(AssertionError, match="again"), pytest.warns(UserWarning, match="looking through"):
            imagefolder(root, size=6, unreadable="skip", streamed=True)

    def test_a_changed_file_is_seen(self, tmp_path: Path) -> None:
        root = write_folder(tmp_path / "pets")
        with pytest.warns(UserWarning, match="looking through 30"):
            before = imagefolder(root, streamed=True)
        Image.fromarray(pixels_of(0, 99)).save(root / before.train.ids_of(before.train.rows)[0])
        with pytest.warns(UserWarning, match="looking through 30"):
            after = imagefolder(root, streamed=True)
        assert after.train.fingerprint() != before.train.fingerprint()
        assert after.train.fingerprint() == imagefolder(root, streamed=False).train.fingerprint()

    @pytest.mark.parametrize("content", [b"", b"\0" * 100])
    def test_a_damaged_one_is_made_anew(self, tmp_path: Path, cache: Path, content: bytes) -> None:
        root = write_folder(tmp_path / "pets")
        with pytest.warns(UserWarning, match="looking through 30"):
            before = imagefolder(root, streamed=True)
        (kept,) = cache.iterdir()
        kept.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged"):
            assert imagefolder(root, streamed=True).train.fingerprint() == before.train.fingerprint()

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path, cache: Path) -> None:
        cache.write_text("a file, no folder")
        with pytest.warns(UserWarning, match="cannot be kept"):
            imagefolder(write_folder(tmp_path / "pets"), streamed=True)

    def test_small_sets_leave_nothing_behind(self, tmp_path: Path, cache: Path) -> None:
        imagefolder(write_folder(tmp_path / "pets", 3), streamed=True)
        assert not cache.exists()


def write_tiny(root: Path) -> Path:
    """Write made-up files in the layout of tiny-imagenet-200, with three classes."""
    wnids = ["n03", "n01", "n02"]
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (root / "words.txt").write_text("n01\tcrane, bird\nn02\tgoldfish, Carassius auratus\nn03\tcrane\nn99\tother\n")
    lines = []
    for kind, wnid in enumerate(wnids):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        (images.parent / f"{wnid}_boxes.txt").write_text("")
        for number in range(4):
            image = Image.fromarray(pixels_of(kind, number, 64, 64))
            (image.convert("L") if number == 3 else image).save(images / f"{wnid}_{number}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(pixels_of(number % 3, 100 + number, 64, 64)).save(root / f"val/images/val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnids[number % 3]}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


class TestTinyImageNet:
    @pytest.mark.parametrize("below", [".", "tiny-imagenet-200"])
    def test_made_up_files_in_the_original_layout(self, tmp_path: Path, below: str) -> None:
        write_tiny(tmp_path / "data" / below)
        made: Splits = DATASETS.build("tinyimagenet", root=tmp_path / "data")
        assert (len(made.train), len(made.test)) == (12, 6)
        assert made.train.class_names == ("crane (n01)", "goldfish", "crane (n03)")
        assert made.train.input_shape == (3, 64, 64)
        assert made.train.class_counts().tolist() == [4, 4, 4]
        assert of(made)[0][0] == "train/n01/images/n01_0.JPEG"
        assert of(made)[1][0] == "val/images/val_0.JPEG"
        assert made.test.targets_of(made.test.rows).tolist() == [2, 0, 1, 2, 0, 1]
        assert made.augment == Augment(crop=8, flip=True)
        again = DATASETS.build("tinyimagenet(streamed=true)", root=tmp_path / "data")
        assert again.test.fingerprint() == made.test.fingerprint()

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no wnids\.txt in .*tiny-imagenet-200; .*--root"):
            tinyimagenet(tmp_path)
        root = write_tiny(tmp_path / "tiny")
        annotations = root / "val" / "val_annotations.txt"
        annotations.write_text(annotations.read_text().replace("n02", "n77", 1))
        with pytest.raises(DataError, match=r"the class 'n77' in line 3, which wnids\.txt does not know"):
            tinyimagenet(root)
        annotations.unlink()
        with pytest.raises(DataError, match=r"val_annotations\.txt cannot be read"):
            tinyimagenet(root)
        shutil.rmtree(root / "train" / "n02")
        with pytest.raises(DataError, match="n02 holds no picture"):
            tinyimagenet(root)

    def test_a_missing_or_odd_picture_is_named(self, tmp_path: Path) -> None:
        root = write_tiny(tmp_path / "tiny")
        Image.new("RGB", (32, 64)).save(root / "val/images/val_2.JPEG")
        with pytest.raises(DataError, match=r"2 sizes .*: 64 x 64 \(17\), 64 x 32 \(1\); fetch them again"):
            tinyimagenet(root)
        (root / "val/images/val_2.JPEG").unlink()
        with pytest.raises(DataError, match=r"val/images/val_2\.JPEG \(there is no such file\)"):
            tinyimagenet(root)


class TestImageNet:
    @pytest.mark.parametrize("below", [".", "ILSVRC/Data/CLS-LOC"])
    def test_made_up_files_in_the_original_layout(self, tmp_path: Path, below: str) -> None:
        for part in ("train", "val"):
            write_folder(tmp_path / below / part, 6, kinds=("n01", "n02"), mixed=True)
        (tmp_path / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\n")
        made: Splits = DATASETS.build("imagenet(size=16)", root=tmp_path)
        assert (len(made.train), len(made.test), made.train.input_shape) == (12, 12, (3, 16, 16))
        assert made.train.class_names == ("tench", "goldfish")
        assert made.augment == Augment(crop=2, flip=True)
        assert of(made)[1][0].startswith("val/n01/000")

    def test_unsorted_validation_pictures_are_explained(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 2)
        (tmp_path / "val").mkdir()
        with pytest.raises(DataError, match="has no class folders; sort its pictures into val/WNID/"):
            imagenet(tmp_path)
        with pytest.raises(DataError, match=r"imagenet: there is no train in"):
            imagenet(tmp_path / "train")
