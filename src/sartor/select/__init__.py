"""Selectors, which choose samples by a scan, and samplers, which choose them without one."""

from sartor.registry import SAMPLERS as SAMPLERS
from sartor.registry import SELECTORS as SELECTORS
from sartor.select.aum import AUM as AUM
from sartor.select.ccs import CCS as CCS
from sartor.select.committee import ALSE as ALSE
from sartor.select.committee import BALD as BALD
from sartor.select.craig import CRAIG as CRAIG
from sartor.select.dual import DUAL as DUAL
from sartor.select.facility import FacilityLocation as FacilityLocation
from sartor.select.forgetting import Forgetting as Forgetting
from sartor.select.glister import GLISTER as GLISTER
from sartor.select.gradmatch import GradMatch as GradMatch
from sartor.select.grand import GraNd as GraNd
from sartor.select.graph_cut import GraphCut as GraphCut
from sartor.select.infobatch import InfoBatch as InfoBatch
from sartor.select.moderate import Moderate as Moderate
from sartor.select.random import Random as Random
from sartor.select.samplers import Redraw as Redraw
from sartor.select.scores import EL2N as EL2N
from sartor.select.scores import Loss as Loss
from sartor.select.sieve import Sieve as Sieve
from sartor.select.uncertainty import Entropy as Entropy
from sartor.select.uncertainty import LeastConfidence as LeastConfidence
from sartor.select.uncertainty import Margin as Margin
