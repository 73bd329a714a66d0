from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sartor.data import Splits
from sartor.data.records import class_labels, read_csv
from sartor.data.tables import csv, npz
from sartor.errors import ConfigError, DataError
from sartor.registry import DATASETS


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def flowers(n: int = 30, **columns: list[str]) -> str:
    """A table of n lines: two numbers, a word, and the class as the last column; further columns come first."""
    lines = [",".join([*columns, "length", "width", "colour", "class"])]
    for i in range(n):
        cells = [values[i] for values in columns.values()]
        lines.append(
            ",".join([*cells, str(i / 4), str((7 * i) % 5), ("red", "blue")[i % 2], ("rose", "lily")[i // 2 % 2]])
        )
    return "\n".join(lines) + "\n"


def everything(splits: Splits) -> torch.Tensor:
    """All inputs, in the order of the ids."""
    assert isinstance(splits.train.inputs, torch.Tensor)
    return splits.train.inputs


class TestCsv:
    def test_a_table_by_hand(self, tmp_path: Path) -> None:
        text = "id,size,colour,label,split\nd,1,red,b,train\na,3,blue,a,train\nc,11,red,a,test\nb,5,green,b,train\n"
        made = csv(write(tmp_path, text))
        assert made.train.ids == ("a", "b", "c", "d")
        assert made.train.rows.tolist() == [0, 1, 3]
        assert made.test.rows.tolist() == [2]
        assert made.train.class_names == ("a", "b")
        assert made.train.targets_of(torch.arange(4)).tolist() == [0, 1, 0, 1]
        spread = (8 / 3) ** 0.5  # of 3, 5 and 1, which train; blue, green, red follow
        expected = [[0, 1, 0, 0], [2 / spread, 0, 1, 0], [8 / spread, 0, 0, 1], [-2 / spread, 0, 0, 1]]
        torch.testing.assert_close(everything(made), torch.tensor(expected))

    def test_a_fixed_stratified_share_is_held_out(self, tmp_path: Path) -> None:
        made = csv(write(tmp_path, flowers()))
        assert (len(made.train), len(made.test), made.train.input_shape) == (24, 6, (4,))
        assert made.test.class_counts().tolist() == [3, 3]
        assert made.train.ids[:3] == ("00", "01", "02")
        part = everything(made)[made.train.rows]
        torch.testing.assert_close(part[:, 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
        torch.testing.assert_close(part[:, 0].std(correction=0), torch.tensor(1.0))
        assert set(part[:, 2:].unique().tolist()) == {0.0, 1.0}
        assert len(DATASETS.build("csv(test=0.5)", root=tmp_path / "table.csv").test) == 15

    def test_with_ids_the_order_of_the_lines_has_no_effect(self, tmp_path: Path) -> None:
        head, *lines = flowers(id=[f"f{i:02d}" for i in range(30)]).splitlines()
        made = [
            csv(write(tmp_path, "\n".join([head, *order]))) for order in (lines, lines[::-1], lines[7:] + lines[:7])
        ]
        assert len({splits.train.fingerprint() for splits in made}) == 1
        assert len({splits.test.fingerprint() for splits in made}) == 1

    def test_the_target_is_found_or_named(self, tmp_path: Path) -> None:
        text = "a,label,b\n" + "".join(f"{i % 3},{i % 2},{i % 4}\n" for i in range(12))
        assert csv(write(tmp_path, text)).train.class_names == ("0", "1")
        assert csv(write(tmp_path, text), target="b").train.class_names == ("0", "1", "2", "3")
        with pytest.warns(UserWarning, match="no column label, target, class; the last one, 'b', is taken"):
            assert csv(write(tmp_path, text.replace("label", "c"))).train.class_names == ("0", "1", "2", "3")
        with pytest.raises(
            ConfigError, match=r"target is 'lable'; it must be one of a, label, b\. Did you mean 'label'"
        ):
            csv(write(tmp_path, text), target="lable")
        with pytest.raises(DataError, match="columns label and class; say which one is meant with target=NAME"):
            csv(write(tmp_path, text.replace("a,", "class,", 1)))

    def test_capital_letters_in_names_have_no_effect(self, tmp_path: Path) -> None:
        """Taken for a feature, the column Label would give the answer away, and the last one would be the class."""
        text = "Label,ID,Split,a,b\n" + "".join(
            f"{'xy'[i % 2]},s{i:02d},{('Train', 'TEST')[i // 10]},{i},{i % 3}\n" for i in range(12)
        )
        made = csv(write(tmp_path, text))
        assert made.train.class_names == ("x", "y")
        assert made.train.input_shape == (2,)
        assert made.test.ids_of(made.test.rows) == ["s10", "s11"]
        again = csv(write(tmp_path, text), target="LABEL", id="id")
        assert again.train.fingerprint() == made.train.fingerprint()
        with pytest.raises(DataError, match="columns Label and label; say which one is meant with target=NAME"):
            csv(write(tmp_path, text.replace("a,b", "label,b")))
        with pytest.raises(DataError, match="has a column Path; a list of pictures"):
            csv(write(tmp_path, "Path,label\na.png,x\nb.png,y\nc.png,x\n"))

    def test_the_last_column_is_not_that_of_the_split(self, tmp_path: Path) -> None:
        text = "a,kind,split\n" + "".join(f"{i},{'xy'[i % 2]},{('train', 'test')[i // 8]}\n" for i in range(10))
        with pytest.warns(UserWarning, match="the last one, 'kind', is taken"):
            assert csv(write(tmp_path, text)).train.class_names == ("x", "y")

    @pytest.mark.parametrize("first", ["5.1,3.5,setosa", "5,5,setosa", "1,2,setosa"])
    def test_a_table_without_names_does_not_lose_its_first_sample(self, tmp_path: Path, first: str) -> None:
        lines = [first, *(f"{i / 7:.2f},{i % 5},{('setosa', 'virginica')[i % 2]}" for i in range(20))]
        with pytest.raises(DataError, match="first line must name the columns: add a line of column names"):
            csv(write(tmp_path, "\n".join(lines)))

    @pytest.mark.parametrize("begin", [0, 1, 2019])
    def test_columns_may_be_counted(self, tmp_path: Path, begin: int) -> None:
        text = f"{begin},{begin + 1},{begin + 2},label\n" + "".join(f"{i},{i % 5},1,{'xy'[i % 2]}\n" for i in range(20))
        assert csv(write(tmp_path, text)).train.input_shape == (3,)

    def test_spellings_of_one_number_are_one_class(self, tmp_path: Path) -> None:
        """As pandas writes them where a value was missing once: 1 and 1.0 are no two classes."""
        text = "a,label\n" + "".join(f"{i},{('1', '1.0', '0')[i % 3]}\n" for i in range(30))
        made = csv(write(tmp_path, text))
        assert made.train.class_names == ("0", "1")
        assert made.train.targets_of(torch.arange(6)).tolist() == [1, 1, 0, 1, 1, 0]
        with pytest.raises(DataError, match="1 different values in column 'label'"):
            csv(write(tmp_path, text.replace(",0\n", ",1\n")))

    def test_time_grows_with_the_columns_not_with_their_square(self, tmp_path: Path) -> None:
        """Counting each name among all of them takes over ten seconds for as many columns as genes are measured."""
        count = 30_000
        head = ",".join(f"gene{i}" for i in range(count))
        path = write(tmp_path, f"{head},label\n" + f"{','.join(['1'] * count)},x\n" * 3)
        begin = time.process_time()
        table = read_csv(path)
        assert [table.column(name)[0] for name in table.names[:count]] == ["1"] * count
        assert time.process_time() - begin < 2

    def test_a_constant_column_is_zero(self, tmp_path: Path) -> None:
        text = "x,y,label\n" + "".join(f"0.1,{i},{i % 2}\n" for i in range(10))
        assert everything(csv(write(tmp_path, text)))[:, 0].tolist() == [0.0] * 10

    def test_other_separators_quotes_and_byte_order_marks(self, tmp_path: Path) -> None:
        text = flowers().replace(",", ";").replace("rose", '"rose; red"')
        made = csv(write(tmp_path, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()), separator=";")
        assert made.train.class_names == ("lily", "rose; red")
        with pytest.raises(DataError, match=r"has one column, .*; if ';' separates cells, say separator=';'"):
            csv(write(tmp_path, flowers().replace(",", ";")))
        with pytest.raises(ConfigError, match="separator is '--'; it must be one character"):
            csv(write(tmp_path, text), separator="--")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "table.csv is empty"),
            ("\n \n", "table.csv is empty"),
            ("a,label\n", "no line below its names"),
            ("a,label\n1,x\n2\n", "1 cells in line 3, but names for 2"),
            ("a,label\n1,x\n\n\n2,y,3\n", "3 cells in line 5"),
            ("a,a,label\n1,2,x\n", "the column 'a' twice in its first line"),
            ("a,,label\n1,2,x\n", "a column without a name"),
            ("5.1,5.1,x\n4,3,y\n", "begins with numbers"),
            ("1,2,3\n4,5,6\n", "begins with numbers; its first line must name the columns"),
            ("a,label\n1,x\n,y\n2,x\n", "has no 'a' in line 3"),
            ("a,label\n1,x\n3,\n2,x\n", "has no 'label' in line 3"),
            ("a,label\n1,x\n2,y\nNA,x\n", "'NA' in column 'a', line 4, which is no finite number"),
            ("a,label\n1,x\n2,y\nnan,x\n", "'nan' in column 'a', line 4"),
            ("a,label\n1,x\n2,y\ninf,x\n", "'inf' in column 'a', line 4"),
            ('a,label\n1,x\n"2,y\n', "is no csv table"),
            ("id,a,label\nq,1,x\nr,2,y\nq,3,x\n", "the id 'q' in lines 2 and 4"),
            ("a,label\n1,x\n2,x\n", "1 different values in column 'label', 2 lines; it must hold classes"),
            ("a,note\n1,red\n2,blue\n", "2 different values in column 'note', 2 lines.*target=NAME"),
            ("a,price\n1,2.5\n2,2.5\n3,1\n", "2.5 in column 'price', line 2; it must hold classes"),
            ("label\nx\ny\nx\n", "no column beside 'label'"),
            (
                "a,label,split\n1,x,train\n2,y,dev\n3,x,test\n",
                "the split 'dev'; known are train, training, test, testing, val",
            ),
            ("a,label,split\n1,x,test\n2,y,test\n3,x,test\n", "all 3 samples are for testing"),
            ("path,label\na.png,x\nb.png,y\nc.png,x\n", "read with --data manifest --root"),
        ],
    )
    def test_damaged_tables_name_the_place(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            csv(write(tmp_path, text))

    def test_too_many_words_and_other_encodings(self, tmp_path: Path) -> None:
        text = "a,name,label\n" + "".join(f"{i},name{i},{i % 2}\n" for i in range(21))
        with pytest.raises(DataError, match="21 different words in column 'name'; only 20 can be told apart"):
            csv(write(tmp_path, text))
        with pytest.raises(DataError, match=r"is not in UTF-8 \(line 3\)"):
            csv(write(tmp_path, "a,label\n1,x\n2,caf\u00e9\n".encode("latin-1")))
        with pytest.raises(DataError, match="--root FILE"):
            csv()
        with pytest.raises(DataError, match="is no file"):
            csv(tmp_path)

    def test_a_split_of_its_own_may_have_an_unused_part(self, tmp_path: Path) -> None:
        parts = [("train", "train", "val", "test")[i % 4] for i in range(30)]
        with pytest.warns(UserWarning, match="test and val; test is the test set"):
            made = csv(write(tmp_path, flowers(split=parts)))
        assert (len(made.train), len(made.test), len(made.train.ids)) == (16, 7, 23)


class TestClassLabels:
    @given(st.lists(st.one_of(st.none(), st.integers(-20, 20), st.text(max_size=3)), min_size=1, max_size=20))
    def test_labels_count_from_0_in_the_order_of_the_names(self, values: list[Any]) -> None:
        labels, names = class_labels(values)
        assert len(names) == len(set(names))
        for value, label in zip(values, labels, strict=True):
            assert (label == -1) if value is None else names[label] == str(value) or float(names[label]) == float(value)

    def test_whole_numbers_are_sorted_as_numbers(self) -> None:
        assert class_labels(["10", "9", "-1"])[1] == ["-1", "9", "10"]
        assert class_labels(["10", "9", "x"])[1] == ["10", "9", "x"]
        assert class_labels(["10.0", "9.0", "0.5"])[1] == ["0.5", "9.0", "10.0"]

    def test_equal_numbers_are_one_class_and_large_ones_stay_apart(self) -> None:
        assert class_labels(["1", "1.0", "01", "2", 1, 1.0]) == ([0, 0, 0, 1, 0, 0], ["1", "2"])
        assert class_labels(["x", "1.0", "1"]) == ([1, 0, 0], ["1", "x"])
        assert class_labels([str(2**60), str(2**60 + 1)])[0] == [0, 1]
        assert class_labels(["1_0", "10", "nan", "NaN"])[1] == ["10", "1_0", "NaN", "nan"]


class TestNpz:
    def save(self, folder: Path, **arrays: Any) -> Path:
        np.savez(folder / "arrays.npz", **arrays)
        return folder / "arrays.npz"

    def test_four_arrays(self, tmp_path: Path) -> None:
        x, y = np.arange(24, dtype=np.float64).reshape(8, 3), np.arange(8) % 3
        made = npz(self.save(tmp_path, x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:]))
        assert (len(made.train), len(made.test), made.train.classes) == (6, 2, 3)
        assert made.train.ids_of(made.train.rows)[:2] == ["train/000000", "train/000001"]
        assert made.train.gather(made.train.rows).tolist() == x[:6].tolist()  # type: ignore[union-attr]
        assert made.test.gather(made.test.rows).tolist() == x[6:].tolist()  # type: ignore[union-attr]
        assert made.test.targets_of(made.test.rows).tolist() == [0, 1]

    def test_two_arrays_with_ids_in_any_order(self, tmp_path: Path) -> None:
        x, y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20) % 2
        ids = np.array([f"s{i:02d}" for i in range(20)])
        made = npz(self.save(tmp_path, inputs=x, targets=y, ids=ids))
        assert (len(made.train), len(made.test)) == (16, 4)
        order = np.random.default_rng(0).permutation(20)
        again = npz(self.save(tmp_path, inputs=x[order], targets=y[order], ids=ids[order]))
        assert again.train.fingerprint() == made.train.fingerprint()
        assert torch.equal(again.test.rows, made.test.rows)
        assert len(npz(self.save(tmp_path, inputs=x, targets=y), test=0.5).test) == 10

    @pytest.mark.parametrize("shape", [(20, 6, 5), (20, 3, 6, 5), (20, 6, 5, 3), (20, 6, 5, 1)])
    def test_images_of_bytes(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        made = npz(self.save(tmp_path, inputs=x, targets=np.arange(20)[:, None] % 2))
        channels = 3 if 3 in shape else 1
        assert made.train.input_shape == (channels, 6, 5)
        assert made.train.preprocess == made.test.preprocess
        batch = made.train.gather(made.train.rows)
        assert isinstance(batch, torch.Tensor)
        torch.testing.assert_close(batch.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5, rtol=0)
        first = x[0] if shape[1] == 3 else np.moveaxis(x[0].reshape(6, 5, channels), 2, 0)
        assert np.array_equal(made.train.inputs[0], first)  # type: ignore[index]

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "bool", "float16"])
    def test_tables_of_small_numbers_reach_the_network_as_float32(self, tmp_path: Path, dtype: str) -> None:
        x = (np.arange(40).reshape(20, 2) % 2).astype(dtype)
        made = npz(self.save(tmp_path, inputs=x, targets=np.arange(20) % 2)).train
        batch = made.gather(made.rows)
        assert isinstance(batch, torch.Tensor)
        assert batch.dtype == torch.float32
        assert np.array_equal(batch, x[made.rows])

    def test_names_of_classes(self, tmp_path: Path) -> None:
        made = npz(self.save(tmp_path, inputs=np.zeros((10, 2)), targets=np.array(["owl", "cat"] * 5)))
        assert made.train.class_names == ("cat", "owl")
        assert made.train.targets_of(torch.arange(4)).tolist() == [1, 0, 1, 0]

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.zeros((3, 2))}, "holds x; it must hold x_train, y_train, x_test, y_test, or inputs, targets"),
            ({"inputs": np.zeros((3, 2)), "targets": np.zeros(2, int)}, "3 inputs and 2 labels"),
            ({"inputs": np.zeros((3, 2)), "targets": np.zeros(3)}, r"labels of float64 in shape \(3,\)"),
            (
                {"inputs": np.zeros((3, 2)), "targets": np.eye(3)},
                r"one-hot labels of shape \(3, 3\); give array.argmax",
            ),
            ({"inputs": np.zeros((9, 16, 16, 3)), "targets": np.arange(9)}, r"so give \.transpose\(0, 3, 1, 2\)"),
            ({"inputs": np.zeros((3, 2)), "targets": np.zeros((3, 2), int)}, r"labels of int64 in shape \(3, 2\)"),
            ({"inputs": np.zeros((0, 2)), "targets": np.zeros(0, int)}, "no samples in inputs"),
            ({"inputs": np.array([{}, {}]), "targets": np.zeros(2, int)}, "cannot be read .*allow_pickle"),
            ({"inputs": np.zeros((3, 2)), "targets": np.array([0, 1, -2])}, "label -2"),
            ({"inputs": np.zeros((3, 2)), "targets": np.zeros(3, int), "ids": np.array(["a", "b", "a"])}, "more than"),
            (
                {"x_train": np.zeros((3, 2)), "y_train": [0, 1, 0], "x_test": np.zeros((3, 4)), "y_test": [0, 1, 0]},
                r"x_test of float64 \(4,\) and x_train of float64 \(2,\)",
            ),
            (
                {"x_train": np.zeros((3, 2)), "y_train": [0, 1, 0], "x_test": np.zeros((2, 2)), "y_test": ["a", "b"]},
                "labels of int64|labels of <U1",
            ),
        ],
    )
    def test_arrays_that_do_not_fit(self, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
        with pytest.raises(DataError, match=message):
            npz(self.save(tmp_path, **arrays))

    @pytest.mark.parametrize("keep", [0, 10, 100, -30])
    def test_files_that_are_cut_short(self, tmp_path: Path, keep: int) -> None:
        path = self.save(tmp_path, inputs=np.zeros((30, 2)), targets=np.arange(30) % 2)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"arrays\.npz cannot be read"):
            npz(path)

    def test_other_files(self, tmp_path: Path) -> None:
        import pickle

        for content in (b"no archive", pickle.dumps(["hostile"])):
            with pytest.raises(DataError, match=r"cannot be read .*; save plain arrays with np\.savez"):
                npz(write(tmp_path, content, "arrays.npz"))
        np.save(tmp_path / "one.npy", np.zeros(3))
        with pytest.raises(DataError, match="cannot be read"):
            npz(tmp_path / "one.npy")
        with pytest.raises(DataError, match="--root FILE"):
            npz()
