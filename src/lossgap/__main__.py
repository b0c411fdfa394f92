"""`python -m lossgap`: the command line."""

import sys

from lossgap.cli.main import main

sys.exit(main())
