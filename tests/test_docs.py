"""The documentation keeps up with the code: every method has its card, every snippet and every command runs."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from made_up_data import write_everything, write_idx_files
from sartor import comparison
from sartor.cli import main, study, train
from sartor.cli.data import Get
from sartor.cli.options import parse_options
from sartor.cli.report import Report
from sartor.data.originals import OFFERS
from sartor.recipes import forecaster
from sartor.registry import DATASETS, MODELS, PRUNERS, RECIPES, SAMPLERS, SELECTORS, Registry
from sartor.studies import proxy_ranking

ROOT = Path(__file__).parent.parent
CARDS = ROOT / "docs" / "methods"
PAGES = [page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if page.exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
REGISTRIES = (RECIPES, SELECTORS, SAMPLERS, PRUNERS, MODELS, DATASETS)
ENTRIES = [(registry, name) for registry in REGISTRIES[:4] for name in registry]
HEADINGS = "Idea", "Equation", "Options", "Cost", "When not to use it", "Differences", "Use", "Source"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "console", "sh", "text", "yaml", "toml"}
DRY = ("train", "compare")
NUMBER = re.compile(r"[-−+]?\d[\d.,]*(e[-+]?\d+)?")
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
FOREIGN = {"--standalone", "--nproc-per-node", "--nnodes", "--node-rank", "--master-addr"} | {
    flag
    for program in BENCHMARKS
    for flag in re.findall(r'add_argument\("(--[a-z-]+)"', program.read_text(encoding="utf-8"))
}
"""Flags of torchrun and of the benchmarks."""


def name_of(value: object) -> str | None:
    """What a parametrised test is called after."""
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return value.kind if isinstance(value, Registry) else None


def card_of(registry: Registry, name: str) -> Path:
    """The card of a method; where an earlier registry has its name, it is called after its kind as well."""
    first = next(other for other, known in ENTRIES if known == name)
    return CARDS / (f"{name}.md" if first is registry else f"{name}-{registry.kind}.md")


@dataclass(frozen=True)
class Fenced:
    """A code block: its language, the line on which its code begins, its code."""

    language: str
    line: int
    code: str

    def save(self, folder: Path) -> None:
        """Save a file that a page shows, whose first line is its name in a comment."""
        if named := re.match(r"# (\w+\.(?:py|yaml|toml))[ ;\n]", self.code):
            (folder / named[1]).write_text(self.code, encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[Fenced]:
    """Code blocks of a page in some languages."""
    text = page.read_text(encoding="utf-8")
    found = [match for match in FENCE.finditer(text) if match[1] in languages]
    return [Fenced(match[1], text.count("\n", 0, match.start(2)) + 1, match[2]) for match in found]


def commands(page: Path, *languages: str) -> list[list[str]]:
    """The `sartor` commands in a page's blocks, split into words; of torchrun's, what follows `-m`.

    A comment `the same with: --flags` is the command before it with more flags.
    """
    found: list[list[str]] = []
    for block in blocks(page, *languages):
        for line in block.code.replace("\\\n", " ").splitlines():
            same = line.startswith("# the same with: ")
            words = shlex.split(line.removeprefix("# the same with: "), comments=True)
            if "-m" in words[:5] and words[0] in ("python", "torchrun"):
                words = words[words.index("-m") + 1 :]
            if same:
                found.append([*found[-1], *words])
            elif words[:1] == ["sartor"]:
                found.append([word for word in words[1:] if word != "..."])
    return found


def dialogue(code: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, after `$`, each with the lines that it is shown to print."""
    parts = re.split(r"^\$ ", code.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0], "a console block begins with $ and a command"
    return [(lines[0], lines[1:]) for lines in (part.splitlines() for part in parts[1:])]


def bare(line: str) -> str:
    """A line without its numbers and spaces."""
    return re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip()


def check_printed(shown: list[str], printed: str) -> None:
    """Assert that the lines shown were printed, in this order, whatever their numbers; `...` stands for any others."""
    left = iter(map(bare, printed.splitlines()))
    for line in shown:
        assert line == "..." or bare(line) in left, f"not printed, or not in this order: {line}"


def carry_out(block: Fenced, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the commands of a console block: ours in this process, all others in a shell."""
    for command, shown in dialogue(block.code):
        if command.startswith("sartor "):
            assert main(shlex.split(command, comments=True)[1:]) == 0, f"{command}: {capsys.readouterr().err}"
            check_printed(shown, capsys.readouterr().out)
        else:
            subprocess.run(command, shell=True, check=True)


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


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=name_of)
def test_every_method_has_a_card_that_names_all_its_options(registry: Registry, name: str) -> None:
    place = card_of(registry, name)
    card = place.read_text(encoding="utf-8")
    assert card.startswith(f"# {name}: ")
    missing = [option for option in registry.options(name) if f"`{option}`" not in card]
    assert not missing, f"the card of {name} does not name {missing}"
    assert any(name in command for line in commands(place, "sh") for command in line), "no command uses it"


@pytest.mark.parametrize(("registry", "name"), ENTRIES, ids=name_of)
def test_a_card_tells_the_defaults_that_the_code_has(registry: Registry, name: str) -> None:
    told = table_rows(card_of(registry, name).read_text(encoding="utf-8"))
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
    assert card in {card_of(*entry) for entry in ENTRIES}
    assert tuple(re.findall(r"^## (.+)$", card.read_text(encoding="utf-8"), re.MULTILINE)) == HEADINGS
    assert blocks(card, "python")


def test_the_index_names_every_card() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"(methods/{card_of(*entry).name})" in index for entry in ENTRIES)


def test_the_data_page_tells_the_options_of_every_data_set_and_the_network_page_those_of_every_network() -> None:
    for registry, page, given in ((DATASETS, "data.md", {"root"}), (MODELS, "networks.md", {"classes", "input_shape"})):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for name in registry:
            assert f"`{name}`" in text, f"{page} does not name {name}"
            missing = [o for o in registry.options(name) if o not in given and not re.search(rf"`{o}[`=]", text)]
            assert not missing, f"{page} does not name {missing} of {name}"


def anchors(page: Path) -> set[str]:
    """What `#...` may be at the end of a link to a page."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_to_other_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            place, _, anchor = target.partition("#")
            other = page.parent / place if place else page
            assert other.exists(), f"{target} is not there"
            assert not anchor or anchor in anchors(other), f"{target}: no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"]({page.relative_to(ROOT / 'docs')}" in index for page in PAGES[2:] if page.name != "index.md")
    assert "docs/index.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_a_kind_that_is_tested_and_flags_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {match[1] for match in FENCE.finditer(text)} <= LANGUAGES
    assert text.count("```") == 2 * len(FENCE.findall(text)), "a block is not closed"
    known = set(re.findall(r"--[a-z-]+", (ROOT / "tests" / "golden" / "flags.txt").read_text(encoding="utf-8")))
    prose = "".join(part for part in re.split(r"^```(?:python|yaml|toml)\n.*?^```$", text, flags=re.M | re.S))
    known |= {flag.replace("--", "--no-", 1) for flag in known}
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", prose)) - known - FOREIGN - {"--help", "--debug"}
    assert not unknown
    targets = re.findall(r"^make ([a-z]+)", "\n".join(block.code for block in blocks(page, "sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}: " in makefile for target in targets)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python", "console")], ids=name_of)
def test_a_page_works_as_it_stands(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of Python and of the console run in order, Python's in one namespace; tests that they define are run."""
    module = types.ModuleType("snippets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page, "python", "console", "yaml"):
        block.save(folder)
        if block.language == "console":
            capsys.readouterr()
            carry_out(block, capsys)
        elif block.language == "python":
            code = compile("\n" * (block.line - 1) + block.code, str(page), "exec", dont_inherit=True)
            exec(code, vars(module))
    for name, test in list(vars(module).items()):
        if name.startswith("test_") and not inspect.signature(test).parameters:
            test()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, "sh")], ids=name_of)
def test_commands_are_understood(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that train are run dry, reports are only parsed, all others are run."""
    write_idx_files(folder / "data")
    for block in blocks(page, "python", "yaml"):
        block.save(folder)
    for words in commands(page, "sh"):
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


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page, "text")], ids=name_of)
def test_commands_for_real_data_are_understood(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are run dry on a few made-up files in the layouts of the real ones; fetching is only parsed."""
    write_everything(folder)
    for place in (forecaster, proxy_ranking):
        monkeypatch.setattr(place, "seconds_per_sample", lambda *_: 0.0)  # timing a ResNet-101 takes too long
    for words in commands(page, "text"):
        if words[0] == "data":
            assert words[1] == "get"
            assert parse_options(Get, words[2:], prog="sartor data get", description="").name in OFFERS
            continue
        words = [
            "data" if before == "--root" and word.startswith("/") else word for before, word in pairwise(["", *words])
        ]
        words = [re.sub(r"samples=\d+", "samples=180", word) for word in words]  # there are few made-up files
        package = next((name for name in ("timm", "torchvision") if any(name in word for word in words)), None)
        if package is not None:  # weights would be fetched
            train.parse(words[1:])
            continue
        if "--known" in words:  # what the command before it would leave
            study.parse(words[1], words[2:])
            at = words.index("--known")
            words = words[:at] + words[at + 2 :]
        swast = words[0] == "compare" and words[1].startswith("--")
        few = ["--arms", "dense", "swast-cut"] if swast and "--arms" not in words else []
        assert main([*words, *few, "--dry-run"]) == 0, f"sartor {shlex.join(words)}: {capsys.readouterr().err}"


def test_entry_points_as_the_page_declares_them_are_found(folder: Path) -> None:
    page = ROOT / "docs" / "how-to" / "by-name.md"
    for block in blocks(page, "python", "toml"):
        block.save(folder)
    declared = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in all_.items()) for group, all_ in declared.items()
    ]
    (folder / "my_package-1.0.dist-info").mkdir()
    (folder / "my_package-1.0.dist-info" / "entry_points.txt").write_text("\n".join(lines))
    (folder / "my_package-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n"
    )
    fresh = {registry.kind: Registry(registry.kind, registry.package) for registry in REGISTRIES}
    assert set(declared) <= {f"sartor.{kind}s" for kind in fresh}
    assert len(fresh["dataset"].build("my-task").train) == 200
    assert fresh["model"].build("my-network(hidden=64)", classes=2, input_shape=(20,))[0].out_features == 64
    named = set(re.findall(r"`(sartor\.[a-z]+)`", page.read_text(encoding="utf-8").split("```toml")[0]))
    assert named >= {f"sartor.{kind}s" for kind in fresh}


def test_the_demo_runs_with_its_smallest_setting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split("compare --config examples/demo.yaml --seeds 1 --epochs 3 --noise 0.2 --out runs/demo")
    assert main(words) == 0, capsys.readouterr().err
    assert (folder / "runs" / "demo" / "report.html").exists()


@pytest.mark.parametrize("program", BENCHMARKS, ids=name_of)
def test_a_benchmark_finds_what_it_imports(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(program.parent)
    runpy.run_path(str(program), run_name="imported")


@pytest.mark.slow
@pytest.mark.parametrize("program", BENCHMARKS, ids=name_of)
def test_a_benchmark_runs_with_its_smallest_setting(program: Path) -> None:
    subprocess.run([sys.executable, str(program), "--quick"], check=True, stdout=subprocess.DEVNULL)


def test_the_own_loop_example_runs_and_is_short(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = ROOT / "examples" / "own_loop.py"
    assert len([line for line in example.read_text(encoding="utf-8").splitlines() if line.strip()]) < 40
    runpy.run_path(str(example), run_name="__main__")
    found = re.search(r"test accuracy (0\.\d+) with 3\d% of the weights", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0.5
