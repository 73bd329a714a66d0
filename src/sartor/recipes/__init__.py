"""Training programs that read like the papers' algorithm boxes, and their controls."""

from sartor.recipes.active import Active as Active
from sartor.recipes.dense import Dense as Dense
from sartor.recipes.drophot import DropHot as DropHot
from sartor.recipes.lazy_proxy import LazyProxy as LazyProxy
from sartor.recipes.outcome import Result as Result
from sartor.recipes.prunefuse import PruneFuse as PruneFuse
from sartor.recipes.prunefuse_coreset import PruneFuseCoreset as PruneFuseCoreset
from sartor.recipes.recipe import Recipe as Recipe
from sartor.recipes.swast import SWaST as SWaST
