from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from sartor.data.images import Decoder, Unreadable, picture_size
from sartor.errors import ConfigError


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return made if channels > 1 else made[:, :, 0]


def save(folder: Path, image: Image.Image, name: str = "picture.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


class TestModes:
    def test_colours_come_channels_first(self, tmp_path: Path) -> None:
        pixels = noise(5, 7)
        made = Decoder()(save(tmp_path, Image.fromarray(pixels)))
        assert made.shape == (3, 5, 7)
        assert made.flags.c_contiguous
        assert np.array_equal(made, pixels.transpose(2, 0, 1))

    def test_grey_becomes_three_equal_channels_or_one(self, tmp_path: Path) -> None:
        pixels = noise(5, 7, 1)
        path = save(tmp_path, Image.fromarray(pixels))
        assert np.array_equal(Decoder()(path), np.stack([pixels] * 3))
        assert np.array_equal(Decoder(channels=1)(path), pixels[None])

    def test_one_channel_of_colours_is_their_luma(self, tmp_path: Path) -> None:
        path = save(tmp_path, Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)))
        assert Decoder(channels=1)(path).tolist() == [[[76, 150, 29]]]  # 0.299, 0.587, 0.114 of 255

    def test_sixteen_bits_are_scaled_not_cut(self, tmp_path: Path) -> None:
        values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
        assert Decoder(channels=1)(save(tmp_path, Image.fromarray(values))).tolist() == [[[0, 0, 1, 1, 128, 255]]]
        assert Decoder()(save(tmp_path, Image.fromarray(values), "deep.tif")).tolist()[2] == [[0, 0, 1, 1, 128, 255]]

    def test_whole_numbers_of_32_bits_that_fit_into_8_are_bytes(self, tmp_path: Path) -> None:
        """Scaled as if there were 16 bits, such a picture would be almost black; one of 16 bits may be that dark."""
        pixels = noise(5, 7, 1)
        path = save(tmp_path, Image.fromarray(pixels.astype(np.int32)), "wide.tif")
        with Image.open(path) as image:
            assert image.mode == "I"
        assert np.array_equal(Decoder(channels=1)(path), pixels[None])
        deep = save(tmp_path, Image.fromarray(np.array([[0, 257, 65535]], dtype=np.int32)), "deep.tif")
        assert Decoder(channels=1)(deep).tolist() == [[[0, 1, 255]]]
        for name in ("dark.png", "dark.tif", "dark.pgm"):
            dark = save(tmp_path, Image.fromarray(np.array([[0, 128, 129, 255]], dtype=np.uint16)), name)
            assert Decoder(channels=1)(dark).tolist() == [[[0, 0, 1, 1]]]

    def test_a_palette_is_looked_up(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putdata([1, 0])
        assert Decoder()(save(tmp_path, image)).tolist() == [[[200, 10]], [[100, 20]], [[50, 30]]]

    def test_transparent_parts_become_white(self, tmp_path: Path) -> None:
        image = Image.new("RGBA", (3, 1))
        image.putdata([(200, 0, 0, 255), (200, 0, 0, 0), (0, 0, 0, 51)])
        assert Decoder()(save(tmp_path, image)).tolist() == [[[200, 255, 204]], [[0, 255, 204]], [[0, 255, 204]]]
        grey = Image.new("LA", (2, 1))
        grey.putdata([(7, 255), (7, 0)])
        assert Decoder(channels=1)(save(tmp_path, grey)).tolist() == [[[7, 255]]]
        palette = Image.new("P", (2, 1))
        palette.putpalette([10, 20, 30, 200, 100, 50])
        palette.putdata([1, 0])
        made = Decoder()(save(tmp_path, palette, transparency=0))
        assert made.tolist() == [[[200, 255]], [[100, 255]], [[50, 255]]]

    def test_black_and_white_and_printed_colours(self, tmp_path: Path) -> None:
        assert Decoder()(save(tmp_path, Image.new("1", (2, 2), 1))).tolist() == [[[255, 255]] * 2] * 3
        printed = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
        for name in ("printed.tif", "printed.jpg"):
            red, green, blue = Decoder()(save(tmp_path, printed, name))
            assert red.min() > 250
            assert max(green.max(), blue.max()) < 5

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.full((2, 2), 0.5, dtype=np.float32), "fractions"),
            (np.full((2, 2), 70_000, dtype=np.int32), "go from 70000 to 70000"),
        ],
    )
    def test_pixels_without_a_known_range_are_refused(self, tmp_path: Path, pixels: np.ndarray, message: str) -> None:
        with pytest.raises(Unreadable, match=message):
            Decoder()(save(tmp_path, Image.fromarray(pixels), "odd.tif"))


class TestOrientation:
    @pytest.mark.parametrize("value", range(1, 9))
    @pytest.mark.parametrize("name", ["turned.png", "turned.jpg", "turned.tif"])
    def test_pictures_are_turned_as_their_camera_says(self, tmp_path: Path, value: int, name: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = value
        path = save(tmp_path, Image.fromarray(noise(5, 8)), name, exif=exif)
        with Image.open(path) as stored:
            seen = np.asarray(ImageOps.exif_transpose(stored)).transpose(2, 0, 1)
        assert np.array_equal(Decoder()(path), seen)
        assert seen.shape == ((3, 8, 5) if value >= 5 else (3, 5, 8))
        if not name.endswith("png"):
            assert picture_size(path) == seen.shape[1:]

    @pytest.mark.parametrize("value", [0, 9, 4711])
    def test_an_orientation_without_a_meaning_is_none(self, tmp_path: Path, value: int) -> None:
        exif, pixels = Image.Exif(), noise(5, 8)
        exif[0x0112] = value
        made = Decoder()(save(tmp_path, Image.fromarray(pixels), exif=exif))
        assert np.array_equal(made, pixels.transpose(2, 0, 1))


class TestResize:
    def test_crop_takes_the_centre_square(self, tmp_path: Path) -> None:
        pixels = noise(6, 11)
        path = save(tmp_path, Image.fromarray(pixels))
        assert np.array_equal(Decoder(size=6)(path), pixels[:, 2:8].transpose(2, 0, 1))
        upright = save(tmp_path, Image.fromarray(pixels.transpose(1, 0, 2)))
        assert np.array_equal(Decoder(size=6)(upright), pixels.transpose(1, 0, 2)[2:8].transpose(2, 0, 1))

    def test_pad_keeps_the_whole_picture_between_zeros(self, tmp_path: Path) -> None:
        pixels = noise(4, 8) | 1
        made = Decoder(size=8, resize="pad")(save(tmp_path, Image.fromarray(pixels)))
        assert np.array_equal(made[:, 2:6], pixels.transpose(2, 0, 1))
        assert made[:, :2].max() == made[:, 6:].max() == 0

    def test_squash_uses_the_whole_picture(self, tmp_path: Path) -> None:
        pixels = np.zeros((4, 8, 3), dtype=np.uint8)
        pixels[:, 4:] = 255
        made = Decoder(size=2, resize="squash")(save(tmp_path, Image.fromarray(pixels)))
        assert made.shape == (3, 2, 2)
        assert made[:, :, 0].max() < 60
        assert made[:, :, 1].min() > 195

    def test_shrinking_averages_over_all_pixels(self, tmp_path: Path) -> None:
        """A fine chequerboard becomes grey; a picked pixel would be black or white."""
        board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
        for resize in ("crop", "squash", "pad"):
            made = Decoder(size=8, resize=resize, channels=1)(save(tmp_path, Image.fromarray(board)))
            assert np.abs(made.astype(int) - 127.5).max() < 10

    @given(
        st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "squash", "pad"]), st.sampled_from([1, 7, 16])
    )
    def test_any_picture_gets_the_size_asked_for(self, height: int, width: int, resize: str, size: int) -> None:
        content = io.BytesIO()
        Image.new("RGB", (width, height), (10, 20, 30)).save(content, "PNG")
        made = np.asarray(Decoder(size, resize).resized(Image.open(content)))
        assert made.shape == (size, size, 3)
        colours = {tuple(colour) for colour in made.reshape(-1, 3).tolist()}
        assert colours <= {(10, 20, 30), (0, 0, 0)} if resize == "pad" else colours == {(10, 20, 30)}
        assert (10, 20, 30) in colours

    def test_an_extreme_picture_takes_no_extreme_memory(self, tmp_path: Path) -> None:
        """Scaled first and cropped then, this line would unpack to two billion pixels."""
        path = save(tmp_path, Image.new("L", (30_000, 1), 9))
        assert Decoder(size=256, channels=1)(path).shape == (1, 256, 256)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 0}, "size is 0; it must be a whole number of pixels"),
            ({"size": True}, "size is True"),
            ({"size": 3.5}, "size is 3.5"),
            ({"size": 8, "resize": "stretch"}, "resize is 'stretch'; it must be one of crop, squash, pad"),
            ({"resize": "pad"}, "no effect without a size"),
            ({"channels": 4}, r"channels is 4; it must be 3 \(colour\) or 1 \(grey\)"),
        ],
    )
    def test_what_it_refuses(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Decoder(**options)  # type: ignore[arg-type]


class TestUnreadable:
    @pytest.mark.parametrize("name", ["picture.jpg", "picture.png", "picture.webp"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_files_that_are_cut_short(self, tmp_path: Path, name: str, share: float) -> None:
        path = save(tmp_path, Image.fromarray(noise(40, 40)), name)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(Unreadable):
            Decoder()(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "the file is empty"), (b"<html>404</html>", "no picture"), (None, "no such file")],
    )
    def test_files_that_are_no_pictures(self, tmp_path: Path, content: bytes | None, message: str) -> None:
        path = tmp_path / "picture.jpg"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(Unreadable, match=message):
            Decoder()(path)
        assert picture_size(path) is None

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize(
        "limit", [100, 60]
    )  # Pillow itself warns from the limit on, and refuses from twice as much
    def test_pictures_that_unpack_to_far_too_much(
        self, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = save(tmp_path, Image.new("L", (15, 10)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(Unreadable, match=r"150 pixels"):
            Decoder()(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert Decoder()(path).shape == (3, 10, 15)
