"""Where fedvox keeps what outlasts a run: FEDVOX_HOME, else ~/.fedvox.

runs/       run folders that were given no place of their own
cohorts/    synthetic cohorts, by the hash of their settings
sites/      cache and state of simulated hospitals that share one real data set
flower/     where `flwr` is called from for runs at a SuperLink of its own configuration
"""

import os
from pathlib import Path


def home() -> Path:
    """The folder itself; not created here."""
    return Path(os.environ.get("FEDVOX_HOME") or Path.home() / ".fedvox").expanduser().absolute()
