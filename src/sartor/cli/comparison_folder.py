"""The folder of a comparison: what compare.json tells of its arms, seeds, noise levels, and of the commands given."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sartor.errors import ResumeError, SartorError
from sartor.files import make_folder, read_object, set_aside, write_json
from sartor.recipes.arms import JOINT
from sartor.recipes.families import FAMILIES
from sartor.recipes.family import Family
from sartor.recipes.recipe import Recipe
from sartor.run_folder import refuse_other_configuration

REPORTED = ("report.html", "results.", "figures", "compare.json")
"""How the names begin of what a report, or a damaged compare.json, leaves beside the runs."""


def prepare_folder(
    out: Path,
    family: Family,
    base: Recipe,
    fixed: dict[str, Any],
    *,
    arms: Sequence[str],
    seeds: Iterable[int],
    noises: Iterable[float],
    again: str,
) -> None:
    """Write compare.json; a folder that holds a comparison already keeps its arms, seeds and noise levels too.

    `fixed` are options beside those of `base` that no command may change; `again` is the command itself.
    Raises: ResumeError: for a folder of something else, of another family, or of other options.
    """
    path = out / "compare.json"
    if out.exists() and not path.exists():
        places = out.iterdir() if out.is_dir() else [out]
        ours = REPORTED if any(out.glob("noise-*/*/seed-*/config.json")) else ()
        strangers = [place.name for place in places if not place.name.startswith((".", "noise-", *ours))]
        if strangers:
            raise ResumeError(f"{out} exists and holds {strangers[0]}, but no comparison; choose another --out.")
    known = known_of(path)
    make_folder(out)
    fixed = fixed | dataclasses.asdict(base)
    if known:
        compared = known.get("family", JOINT.name)
        if compared != family.name:
            raise ResumeError(f"{out} holds a comparison of {compared}, not of {family.name}; choose another --out.")
        refuse_other_configuration(out, known["options"], json.loads(json.dumps(fixed)), base.defaults())
    merged = {
        "family": family.name,
        "options": fixed,
        "arms": family.order([*known.get("arms", []), *arms]),
        "baseline": family.baseline,
        "random": family.random,
        "seeds": sorted({*known.get("seeds", []), *seeds}),
        "noises": sorted({*known.get("noises", []), *noises}),
        "command": again,
        "commands": list(dict.fromkeys([*known.get("commands", []), again])),
    }
    write_json(path, merged)


def known_of(path: Path) -> dict[str, Any]:
    """Read compare.json, {} where there is none. One that is damaged is set aside; only its list of runs is lost."""
    if not path.exists():
        return {}
    try:
        known = read_object(path)
    except SartorError:
        known = {}
    if is_sound(known):
        return known
    warnings.warn(
        f"{path} is damaged and written anew for this command; the runs are untouched. If other commands added arms, "
        "seeds or noise levels here, give them again to list those.",
        stacklevel=2,
    )
    set_aside(path)
    return {}


def is_sound(known: dict[str, Any]) -> bool:
    """Tell whether this is what a comparison writes; one without a family is SWaST's."""
    lists = [known.get(name) for name in ("arms", "seeds", "noises", "commands")]
    family = FAMILIES.get(str(known.get("family", JOINT.name)))
    sound = isinstance(known.get("options"), dict) and all(isinstance(each, list) for each in lists)
    return family is not None and sound and all(str(arm).partition("(")[0] in family.arms for arm in known["arms"])
