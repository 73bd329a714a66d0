"""Selectors, which choose samples by a scan, and samplers, which choose them without one."""

from sartor.registry import SAMPLERS as SAMPLERS
from sartor.registry import SELECTORS as SELECTORS
from sartor.select.gradmatch import GradMatch as GradMatch
from sartor.select.moderate import Moderate as Moderate
from sartor.select.random import Random as Random
from sartor.select.samplers import Redraw as Redraw
from sartor.select.scores import EL2N as EL2N
