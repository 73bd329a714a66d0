"""What can be compared: a family of arms for each of the three systems."""

from __future__ import annotations

from sartor.recipes.arms import JOINT
from sartor.recipes.arms_drophot import PRUNING
from sartor.recipes.arms_prunefuse import ASKING
from sartor.recipes.family import Family

FAMILIES: dict[str, Family] = {family.name: family for family in (JOINT, ASKING, PRUNING)}
