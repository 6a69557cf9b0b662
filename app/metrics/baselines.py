"""Scores that need no model: what a network must beat to be worth its rounds."""

import numpy as np
from numpy.typing import NDArray

from app.config import ConfigError
from data.dataset import Crops

BASELINES = ("nonzero_voxels",)


def check_baseline(name: str) -> None:
    """Raises ConfigError where there is no baseline of that name."""
    if name not in BASELINES:
        raise ConfigError(f"baseline={name}: there is {', '.join(BASELINES)}, or null")


def scores(name: str, crops: Crops) -> NDArray[np.float32]:
    """One logit a crop from the baseline called `name`: `nonzero_voxels`, the logit of the share of voxels above 0.

    Raises:
        ConfigError: no such baseline.
    """
    check_baseline(name)
    share = np.array([np.mean(crops.sample(i).x_CZYX > 0) for i in range(len(crops))])
    bounded = np.clip(share, 1e-5, 1 - 1e-5)
    logits: NDArray[np.float32] = np.log(bounded / (1 - bounded)).astype(np.float32)
    return logits
