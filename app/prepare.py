"""Before round 1 of a simulation: write the cohort, prepare and cache every hospital's volumes, refuse bad data.

In a deployment each hospital does this for itself (`fedvox data check`); here they are all on this machine, so faults
can be named with their files.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.config import Config
from app.site.directory import cohort, open_site
from data.dataset import Crops
from data.errors import EmptySource

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how many."""


@dataclass(frozen=True)
class Prepared:
    """What a hospital brings."""

    patients: int
    crops: int
    positive: int


def prepare(config: Config, progress: Progress = lambda *_: None) -> dict[str, Prepared]:
    """Make every hospital of a simulation ready to train.

    Raises:
        DataError: data that cannot be used; no hospital with both classes.
    """
    if (synthetic := cohort(config)) is not None:
        synthetic.write(
            config["federation"]["hospitals"], lambda n, of: progress("writing the synthetic cohort", n, of)
        )
    found = {name: _prepare(config, name, progress) for name in config["federation"]["hospitals"]}
    for name, hospital in found.items():
        if hospital.positive in (0, hospital.crops):
            log.warning("hospital %s has crops of one class only: it trains, its AUC cannot be told", name)
    if all(hospital.positive in (0, hospital.crops) for hospital in found.values()):
        raise EmptySource("no hospital has crops of both classes, so no AUC can be told; check the labels")
    return found


def _prepare(config: Config, name: str, progress: Progress) -> Prepared:
    site = open_site(config, name)
    crops: Crops = site.crops(config, lambda n, of: progress(f"preparing hospital {name}", n, of))
    if not len(crops):
        raise EmptySource(f"hospital {name} has no labelled crop; check its folder and its labels")
    return Prepared(len(set(crops.patients)), len(crops), int(np.sum(crops.labels)))
