"""The documentation keeps up with the code: every method has its card, every snippet and every command runs."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import shutil
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sartor import comparison
from sartor.cli import main
from sartor.cli.options import parse_options
from sartor.cli.report import Report
from sartor.registry import DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS, Registry

ROOT = Path(__file__).parent.parent
CARDS = ROOT / "docs" / "methods"
PAGES = [page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if page.exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
REGISTRIES = (RECIPES, SELECTORS, SAMPLERS, PRUNERS, MODELS, DATASETS)
ENTRIES = [(registry, name) for registry in REGISTRIES[:4] for name in registry]
HEADINGS = "Idea", "Equation", "Options", "Cost", "When not to use it", "Differences", "Use", "Source"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DRY = ("train", "compare")


def name_of(value: object) -> str | None:
    """What a parametrised test is called after."""
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return value.kind if isinstance(value, Registry) else None


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """Code blocks of a page in some languages, each with the line on which its code begins."""
    text = page.read_text(encoding="utf-8")
    found = [match for match in FENCE.finditer(text) if match[1] in languages]
    return [(text.count("\n", 0, match.start(2)) + 1, match[2]) for match in found]


def commands(page: Path) -> list[list[str]]:
    """The `sartor` commands in a page's shell blocks, split into words."""
    lines = [line for _, code in blocks(page, "sh", "console") for line in code.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if "sartor" in line]
    words = [line[2:] if line[:2] == ["python", "-m"] else line for line in words]
    return [line[1:] for line in words if line[:1] == ["sartor"]]


def table_rows(card: str) -> dict[str, str]:
    """First and second cell of all table rows whose first cell is code."""
    return dict(re.findall(r"^\| `([^`]+)` \| `?([^|`]*)`? \|", card, re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; what a page registers, imports, draws or loads there is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    before = [(registry, {name: registry[name] for name in registry}) for registry in REGISTRIES]
    loaded, threads = set(sys.modules), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    torch.set_num_threads(threads)
    comparison.load.cache_clear()
    for registry, entries in before:
        registry._entries.clear()
        registry._entries.update(entries)
    for module in set(sys.modules) - loaded:
        if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]


def write_idx_files(folder: Path) -> None:
    """Write a few made-up pictures as the files of MNIST and of Fashion-MNIST."""
    source = torch.Generator().manual_seed(0)
    for place in ("mnist/MNIST/raw", "fashion-mnist/FashionMNIST/raw"):
        target = folder / place
        target.mkdir(parents=True)
        for prefix, n in (("train", 200), ("t10k", 40)):
            images = torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=source)
            labels = (torch.arange(n) % 10).to(torch.uint8)
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
                (target / f"{prefix}-{kind}-ubyte").write_bytes(head + values.numpy().tobytes())


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=name_of)
def test_every_method_has_a_card_that_names_all_its_options(registry: Registry, name: str) -> None:
    card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}: ")
    missing = [option for option in registry.options(name) if f"`{option}`" not in card]
    assert not missing, f"the card of {name} does not name {missing}"
    assert any(name in command for line in commands(CARDS / f"{name}.md") for command in line), "no command uses it"


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=name_of)
def test_a_card_tells_the_defaults_that_the_code_has(registry: Registry, name: str) -> None:
    told = table_rows((CARDS / f"{name}.md").read_text(encoding="utf-8"))
    options = {option: repr(default) for option, default in registry.options(name).items()}
    assert {option: told[option] for option in options if option in told} == {
        option: default for option, default in options.items() if option in told
    }
    if registry is not RECIPES:
        assert set(options) == set(told)


def test_recipes_tell_the_default_of_every_option_on_one_card_or_another() -> None:
    told = [table_rows((CARDS / f"{name}.md").read_text(encoding="utf-8")) for name in RECIPES]
    for name in RECIPES:
        assert all(any(option in rows for rows in told) for option in RECIPES.options(name))


@pytest.mark.parametrize("card", sorted(CARDS.glob("*.md")), ids=name_of)
def test_a_card_is_about_a_method_that_exists_and_has_all_headings(card: Path) -> None:
    assert card.stem in {name for _, name in ENTRIES}
    assert tuple(re.findall(r"^## (.+)$", card.read_text(encoding="utf-8"), re.MULTILINE)) == HEADINGS
    assert blocks(card, "python")


def test_the_index_names_every_card() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"(methods/{name}.md)" in index for _, name in ENTRIES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_other_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    lost = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]
    assert not lost


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_snippets_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page share one namespace; the tests that they define are run, the modules they show are saved."""
    module = types.ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for line, code in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + code, str(page), "exec", dont_inherit=True), vars(module))
    for name, test in list(vars(module).items()):
        if name.startswith("test_") and not inspect.signature(test).parameters:
            test()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_are_understood(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that train are run dry, reports are only parsed, all others are run."""
    write_idx_files(folder / "data")
    for _, code in blocks(page, "python"):
        if saved := re.match(r"# (\w+\.py)\n", code):
            (folder / saved[1]).write_text(code, encoding="utf-8")
    for words in commands(page):
        if words[0] == "report":
            parse_options(Report, words[1:], prog="sartor report", description="")
            continue
        dry = words[0] in DRY and "--dry-run" not in words and "--help" not in words
        try:
            code = main([*words, *(["--dry-run"] if dry else [])])
        except SystemExit as end:  # after --help
            code = end.code
        assert not code, f"sartor {shlex.join(words)}: {capsys.readouterr().err}"
        assert capsys.readouterr().out
    assert not (folder / "runs").exists(), "a dry run leaves nothing behind"


def test_the_own_loop_example_runs_and_is_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = ROOT / "examples" / "own_loop.py"
    assert len([line for line in example.read_text(encoding="utf-8").splitlines() if line.strip()]) < 40
    runpy.run_path(str(example), run_name="__main__")
    found = re.search(r"test accuracy (0\.\d+) with 3\d% of the weights", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0.5
