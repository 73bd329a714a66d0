"""The type checker for array shapes: whole numbers may stand where floats are annotated."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
