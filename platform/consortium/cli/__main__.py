"""Run as ``python -m consortium.cli``."""

import sys

from consortium.common.interruption import keep_until_heeded

# First of all: a signal during the imports below would end them with a traceback.
keep_until_heeded()

from consortium.cli.main import main  # noqa: E402

sys.exit(main())
