"""``python -m isograd``: the command line."""

import sys

from isograd.cli import main

sys.exit(main())
