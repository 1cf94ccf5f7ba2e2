"""Run the command line as ``python -m smartc``."""

import sys

from smartc.cli import main

sys.exit(main())
