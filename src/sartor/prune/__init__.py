"""Pruners and the masks that they move."""

from sartor.prune.acdc import ACDC as ACDC
from sartor.prune.distribution import kept_counts as kept_counts
from sartor.prune.gradual import Gradual as Gradual
from sartor.prune.grasp import GraSP as GraSP
from sartor.prune.magnitude import Magnitude as Magnitude
from sartor.prune.masks import Masks as Masks
from sartor.prune.probmask import ProbMask as ProbMask
from sartor.prune.random import Random as Random
from sartor.prune.rigl import RigL as RigL
from sartor.prune.scope import classifier_name as classifier_name
from sartor.prune.scope import prunable as prunable
from sartor.prune.scope import resolve as resolve
from sartor.prune.set import SET as SET
from sartor.prune.snip import SNIP as SNIP
from sartor.prune.synflow import SynFlow as SynFlow
