"""`python -m sartor` is `sartor`."""

import sys

from sartor.cli import main

if __name__ == "__main__":
    sys.exit(main())
