"""Studies: programs that answer a question with many runs, and a table that says what was found."""

from sartor.studies.selectors import SelectorStudy as SelectorStudy
from sartor.studies.study import Study as Study
