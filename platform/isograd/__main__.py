"""``python -m isograd``: the command line."""

import sys

from isograd.cli.main import main

sys.exit(main())
