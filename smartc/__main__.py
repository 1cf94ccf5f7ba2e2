"""Run the command line as ``python -m smartc``."""

import sys

from smartc.cli.main import main

sys.exit(main())
