"""`python -m app` is `fedvox`."""

import sys

from app.cli import main

sys.exit(main())
