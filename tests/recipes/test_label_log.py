from collections.abc import Iterator
from pathlib import Path

import pytest

from sartor.recipes.label_log import LabelLog


@pytest.fixture
def log(tmp_path: Path) -> LabelLog:
    """A log that asked for three labels and was told one."""
    made = LabelLog(tmp_path / "labels.jsonl")
    made.ask(["a", "b", "c"])
    made.tell({"a": 1})
    return made


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_may_end_as_any_editor_ends_them(log: LabelLog, end: bytes, mark: bytes) -> None:
    edited = mark + log.path.read_bytes().replace(b"\n", end)
    log.path.write_bytes(edited)
    log.tell({"b": 2})
    assert log.path.read_bytes() == edited + b'{"told": {"b": 2}}\n'
    assert log.read() == (["a", "b", "c"], {"a": 1, "b": 2})


def test_a_whole_last_line_without_its_end_is_kept(log: LabelLog) -> None:
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-1])
    assert log.read() == (["a", "b", "c"], {"a": 1})
    log.tell({"b": 2})
    assert log.path.read_bytes() == whole + b'{"told": {"b": 2}}\n'


@pytest.mark.parametrize("part", [b'{"told": {"b": 2}', b'{"told": {"\xc3', b"3", b"\x00"])
def test_what_a_kill_left_is_cut_off_byte_by_byte(log: LabelLog, part: bytes) -> None:
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + part)
    log.tell({"c": 0})
    assert log.path.read_bytes() == whole + b'{"told": {"c": 0}}\n'


class Counted(list[str]):
    """Counts how often somebody goes through it."""

    passes = 0

    def __iter__(self) -> Iterator[str]:
        self.passes += 1
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        self.passes += 1
        return super().__contains__(name)


def test_many_labels_are_told_in_one_look_at_what_was_asked(log: LabelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counted(f"id-{number}" for number in range(500))
    monkeypatch.setattr(log, "read", lambda: (asked, {}))
    log.tell(dict.fromkeys(list(asked), 0))
    assert asked.passes < 5
