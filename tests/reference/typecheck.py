"""The type checker for array shapes: whole numbers may stand where floats are annotated.

It looks at one item of a sequence, drawn by `random.getrandbits`. While it is imported it is given draws of its own, or
tests that watch Python's random state would see the checker's.
"""

import random
from unittest import mock

with mock.patch.object(random, "getrandbits", random.Random(0).getrandbits):
    from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
