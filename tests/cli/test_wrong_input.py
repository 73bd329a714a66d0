"""Whatever is wrong is told in one line, exits with 2, and leaves every file as it was."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from command_line import COMPARE, DENSE, SMALL, SWAST, call, done, files_below, refused, set_up, write_images

from sartor.comparison import load
from sartor.errors import ConfigError


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder but for `images/`."""
    return set_up(tmp_path, monkeypatch)


def cases(table: list[tuple[tuple[str, ...], str]]) -> list[object]:
    """Name each case of a table by its words."""
    return [pytest.param(words, message, id=" ".join(words)) for words, message in table]


WRONG = [
    # shares and numbers
    (("--fraction", "0"), r"^fraction is 0; it must lie in \(0, 1\]\."),
    (("--fraction", "1.5"), r"^fraction is 1\.5; it must lie in \(0, 1\]\. Did you mean 0\.15\?$"),
    (("--fraction", "15"), r"Did you mean 0\.15\?$"),
    (("--fraction", "nan"), r"^fraction is nan"),
    (("--fraction", "0.001"), r"fraction.*\b0\.001 of 216 samples"),
    (("--sparsity", "1"), r"sparsity.* is 1; it must lie in \[0, 1\)"),
    (("--holdout", "1"), r"^holdout is 1; it must lie in \[0, 1\)"),
    (("--holdout", "0.999"), r"share of 0\.999"),
    (("--epochs", "0"), r"^epochs is 0; it must lie in \[1, inf\)"),
    (("--lr", "inf"), r"^lr is inf"),
    (("--warmup", "4"), r"^warmup is 4; it must lie in \[0, 3\]"),
    (("--threads", "0"), r"^threads is 0"),
    (("--save-every", "-1"), r"^save.every is -1"),
    # names
    (("--selector", "moderat"), r"no selector called 'moderat'; known: .*Did you mean 'moderate'\?$"),
    (("--selector", "moderate(centre=mean)"), r"has no option 'centre'; it takes: .*Did you mean 'center'\?$"),
    (("--selector", "moderate(center=meen)"), r"center is 'meen'; .*Did you mean 'mean'\?$"),
    (("--selector", "moderate(mean)"), r"option without a name"),
    (("--selector", "moderate(center=mean"), r"is not of the form name"),
    (("--selector", "gradmatch(ridge=big)"), r"ridge"),
    (("--pruner", "rigel"), r"no pruner called 'rigel'; .*Did you mean 'rigl'\?$"),
    (("--pruner", "rigl(evry=3)"), r"Did you mean 'every'\?$"),
    (("--pruner", "rigl(every=often)"), r"every"),
    (("--model", "cn"), r"no model called 'cn'; .*Did you mean 'cnn'\?$"),
    (("--model", "cnn(wdth=3)"), r"has no option 'wdth'; .*Did you mean 'width'\?$"),
    (("--model", "cnn(width=0)"), r"width of cnn is 0"),
    (("--model", "lenet"), r"needs 16 x 16 or more"),
    (("--model", "nowhere.net:make"), r"cannot be imported .*package\.module:name"),
    (("--model", "math:pi"), r"must be a class or a function"),
    (("--model", "math:sqrt"), r"math:sqrt"),
    (("--data", "fashion-mnits"), r"no dataset called .*Did you mean 'fashion-mnist'\?$"),
    # data
    (("--root", "nowhere"), r"no train-images-idx3-ubyte .* in nowhere.*--root"),
    (("--data", "digits"), r"^root is 'images'; digits .* reads no files"),
    # flags
    (("--fracton", "0.3"), r"--fracton.*Did you mean: --fraction"),
    (("--epochs", "many"), r"--epochs.*'many'"),
    (("--epochs", "2.5"), r"--epochs.*'2\.5'"),
    (("--epochs",), r"--epochs"),
    (("--optimizer", "sgdd"), r"sgdd.*sgd.*adam.*adamw"),
    (("stray",), r"stray"),
    (("--config",), r"--config needs a file"),
    (("--config", "nowhere.yaml"), r"^nowhere\.yaml cannot be read \(No such file"),
    (("--config", "images"), r"^images cannot be read"),
    # options without effect
    (("--pruner", "none", "--sparsity", "0.5"), r"sparsity.* (no|without) effect"),
    (("--pruner", "none", "--variant", "trim"), r"variant.* (no|without) effect"),
    (("--pruner", "none", "--classifier-sparsity", "0.5"), r"classifier.sparsity"),
    (("--variant", "trim", "--classifier-sparsity", "0.5"), r"classifier.sparsity"),
    (("--pruner", "rigl(sparsity=0.5)", "--sparsity", "0.5"), r"sparsity.*give it once"),
    (("--pruner", "rigl(sparsity=0.5)", "--variant", "trim"), r"variant"),
    (("--preserve", "none", "--preserve-weight", "0.5"), r"preserve.weight"),
    (("--selector", "none", "--preserve", "none"), r"fraction"),
    (("--optimizer", "adam", "--momentum", "0.5"), r"momentum"),
]


@pytest.mark.parametrize(("words", "message"), cases(WRONG))
def test_wrong_words_are_one_line_and_exit_2(words: tuple[str, ...], message: str) -> None:
    for more in ((), ("--dry-run",)):
        assert re.search(message, refused(*SWAST, "--out", "run", *more, *words))


@pytest.mark.parametrize(
    ("words", "message"),
    cases(
        [
            (("--sampler", "redraw"), r"sampler and fraction go together"),
            (("--fraction", "0.2"), r"sampler and fraction go together"),
            (("--warmup", "1"), r"warmup .*no effect without a sampler"),
            (("--sampler", "redrw", "--fraction", "0.2"), r"Did you mean 'redraw'\?$"),
            (("--sampler", "redraw(evry=2)", "--fraction", "0.2"), r"Did you mean 'every'\?$"),
            (("--sampler", "redraw", "--fraction", "0.2", "--warmup", "2", "--steps", "5"), r"steps is for all data"),
            (("--selector", "moderate"), r"--selector"),
        ]
    ),
)
def test_what_dense_refuses(words: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused("train", "dense", *SMALL, "--out", "run", *words))


@pytest.mark.parametrize(
    ("words", "message"),
    cases(
        [
            (("--arms", "dense", "swast-ct"), r"^arm is 'swast-ct'; .*Did you mean 'swast-cut'\?$"),
            (("--arms", "dense", "dense"), r"named twice"),
            (("--noise",), r"noise"),
            (("--noise", "1.5"), r"^noise is 1\.5; .*Did you mean 0\.15\?$"),
            (("--noise", "0.1", "0.1"), r"named twice"),
            (("--seeds", "0"), r"^seeds is 0"),
            (("--seed", "3"), r"--seed.*Did you mean: --seeds"),
            (("--jobs", "0"), r"^jobs is 0"),
            (("--threads", "100000"), r"^threads is 100000"),
            (("--match", "time"), r"time.*epochs.*cost"),
            (("--match-arm", "dense"), r"match.arm"),
            (("--match", "cost", "--arms", "dense-steps"), r"dense-steps means equal steps"),
            (("--match", "cost", "--match-arm", "swast"), r"Did you mean 'swast-cut'\?$"),
            (("--variant", "trim"), r"starts from variant cut"),
            (("--selector", "none"), r"a selector"),
            (("--selector", "moderat"), r"Did you mean 'moderate'\?$"),
            (("--pruner", "rigl(evry=3)"), r"Did you mean 'every'\?$"),
            (("--model", "cn"), r"Did you mean 'cnn'\?$"),
            (("--root", "nowhere"), r"in nowhere.*--root"),
            (("--device", "cuda:99"), r"^device 'cuda:99' cannot be used here"),
            (("--fraction", "0.001"), r"fraction.*\b0\.001 of 216 samples"),
        ]
    ),
)
def test_what_compare_refuses_before_anything_runs(words: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused(*COMPARE, "--out", "runs", "--seeds", "1", *words))


@pytest.mark.parametrize(
    ("words", "message"),
    cases(
        [
            (("trian",), r"no command 'trian'; known: .*Did you mean 'train'\?$"),
            (("train",), r"name a recipe first: .*dense, .*swast"),
            (("train", "--data", "digits"), r"name a recipe first"),
            (("train", "swst"), r"no recipe called 'swst'; .*Did you mean 'swast'\?$"),
            (("list", "modls"), r"Did you mean 'models'\?$"),
            (("report",), r"name at least one run folder"),
            (("report", "nowhere"), r"no folder .*nowhere"),
            (("report", "images"), r"no finished run"),
        ]
    ),
)
def test_wrong_commands(words: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused(*words))


def test_a_coreset_too_small_for_its_selector_is_refused_before_the_warm_up(place: Path) -> None:
    words = (*SWAST, "--out", "run", "--selector", "gradmatch")
    assert re.search(r"\bk (is|=) 5\b.*10 classes", refused(*words, "--fraction", "0.025", "--warmup", "1"))
    assert done(*words).code == 0, "the folder still belongs to the command that was refused"


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_a_device_that_is_not_there(device: str) -> None:
    message = refused(*DENSE, "--out", "run", "--device", device)
    assert re.search(rf"^device '{device}' cannot be used here .*use auto or cpu", message)


def test_missing_files_can_be_put_there(place: Path) -> None:
    words = (*DENSE, "--out", "run", "--root", "later")
    refused(*words)
    write_images(place / "later" / "MNIST" / "raw")
    done(*words)


def test_damaged_files_are_named(place: Path) -> None:
    labels = place / "images" / "train-labels-idx1-ubyte"
    labels.rename(place / "images" / "kept")
    write_images(place / "images", train=100)
    (place / "images" / "kept").rename(labels)
    load.cache_clear()
    assert re.search(r"240 labels for the 100 images", refused(*DENSE, "--out", "run"))
    load.cache_clear()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("frction: 0.3\n", r"--frction.*Did you mean: --fraction"),
        ("epochs: many\n", r"--epochs.*'many'"),
        ("epochs: 2.5\n", r"--epochs.*'2\.5'"),
        ("epochs: [2, 3]\n", r"3"),
        ("fraction: true\n", r"fraction"),
        ("fraction: null\n", r"--fraction"),
        ("optimizer: sgdd\n", r"sgdd"),
        ("fraction: 1.5\n", r"Did you mean 0\.15\?$"),
        ("selector: moderat\n", r"Did you mean 'moderate'\?$"),
        ("- 1\n- 2\n", r"^options\.yaml holds a list; it must hold lines of the form option: value"),
        ("just text\n", r"^options\.yaml holds a str"),
        ("epochs: [1, 2\n", r"^options\.yaml is no YAML"),
        ("epochs: 1\n\tlr: 2\n", r"^options\.yaml is no YAML"),
        (b"\xff\xfe\x00\x01", r"^options\.yaml"),
        (b"\x89PNG\r\n", r"^options\.yaml"),
    ],
)
def test_wrong_yaml_is_one_line_and_exits_2(place: Path, content: str | bytes, message: str) -> None:
    (place / "options.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ("train", "swast", "--out", "run")
    assert re.search(message, refused(*words, "--config", "options.yaml"))
    assert re.search(message, refused(*words, "--config=options.yaml"))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_messages_do_not_depend_on_the_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    message = refused(*SWAST, "--out", "run", "--fracton", "0.3", encoding=encoding)
    assert re.match(r"Unrecognized options: --fracton", message)
    assert "---" not in message
    assert "|" not in message


def test_debug_shows_where_it_went_wrong() -> None:
    with pytest.raises(ConfigError, match="fraction is 0"):
        call(*SWAST, "--fraction", "0", "--debug")


def test_a_folder_of_another_configuration_is_refused_and_untouched() -> None:
    done(*DENSE, "--out", "run")
    assert re.search(
        r"^run holds .*lr was 0\.05, is now 0\.1\. Use another", refused(*DENSE, "--out", "run", "--lr", 0.1)
    )
    assert "another configuration" in refused(*SWAST, "--out", "run")


@pytest.mark.parametrize("command", [DENSE, COMPARE], ids=["train", "compare"])
def test_a_folder_of_something_else_is_refused_and_untouched(place: Path, command: tuple[str, ...]) -> None:
    (place / "work").mkdir()
    (place / "work" / "thesis.txt").write_text("do not lose me")
    words = () if command is DENSE else ("--arms", "random", "--seeds", "1")
    assert "work" in refused(*command, *words, "--out", "work")
    assert "work" in refused(*command, *words, "--out", "work/thesis.txt")
    assert "work" in refused(*command, *words, "--out", "work/thesis.txt/deeper")


@pytest.mark.parametrize("command", [DENSE, COMPARE], ids=["train", "compare"])
def test_a_place_that_cannot_be_written(place: Path, command: tuple[str, ...]) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    (place / "locked").mkdir(mode=0o555)
    message = refused(*command, "--out", "locked/run")
    assert re.search(r"locked/run cannot be made \(Permission denied\); .*choose another --out", message)


@pytest.mark.parametrize("command", [DENSE, COMPARE], ids=["train", "compare"])
def test_a_place_that_the_system_refuses(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refused(*command, "--out", "locked/run")
    assert re.search(r"locked/run cannot be made \(Permission denied\); .*choose another --out", message)


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where metrics are appended, which is no atomic write."""

    real = open

    def full(file: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
        if "a" in mode:
            raise OSError(28, "No space left on device", str(file))
        return real(file, mode, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", full)
        ended = call(*DENSE, "--out", "run")
    assert ended.code == 2
    assert "No space left" in ended.message
    done(*DENSE, "--out", "run")


def test_a_comparison_of_another_configuration_is_refused_and_untouched() -> None:
    words = (*COMPARE, "--arms", "random", "--seeds", "1", "--out", "runs")
    done(*words)
    before = files_below(Path("runs"))
    ended = call(*words, "--lr", "0.1")
    assert ended.code == 2
    assert "lr was 0.05, is now 0.1" in ended.out + ended.err
    assert files_below(Path("runs")) == before


def test_a_loss_that_is_not_finite_ends_the_run_and_names_samples(place: Path) -> None:
    ended = call(*DENSE, "--lr", "1e30", "--out", "run")
    assert ended.code == 2
    assert re.search(r"the loss of samples train/\d{5}, .* is (nan|inf) at step \d+; lower --lr", ended.message)
    assert not (place / "run" / "results.json").exists()
    assert not (place / "run" / "model.safetensors").exists()
    again = call(*DENSE, "--lr", "1e30", "--out", "run")
    assert (again.code, again.message) == (ended.code, ended.message)
