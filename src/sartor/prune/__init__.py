"""Pruners and the masks that they move."""

from sartor.prune.distribution import kept_counts as kept_counts
from sartor.prune.masks import Masks as Masks
from sartor.prune.rigl import RigL as RigL
from sartor.prune.scope import classifier_name as classifier_name
from sartor.prune.scope import prunable as prunable
from sartor.prune.scope import resolve as resolve
