"""Before round 1 of a simulation: write the cohort, prepare and cache every hospital's volumes, refuse bad data.

In a deployment each hospital does this for itself (`fedvox data check`); here they are all on this machine, so faults
can be named with their files.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.config import Config, ConfigError
from app.privacy.forecast import forecasts
from app.privacy.policy import unowned
from app.privacy.terms import terms_of
from app.rounds.legs import held_out_folds
from app.site.directory import cohort, open_site
from app.site.site import divide
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
    positives: int
    """Of the crops."""
    tested: int
    """Crops that are scored in the end."""
    positive: int
    """Of those that are tested."""

    @property
    def has_auc(self) -> bool:
        """Whether both classes are tested."""
        return 0 < self.positive < self.tested


def prepare(config: Config, progress: Progress = lambda *_: None) -> dict[str, Prepared]:
    """Make every hospital of a simulation ready to train.

    Raises:
        DataError: data that cannot be used; no hospital whose test has both classes.
        ConfigError: private training by patients whom a hospital's data do not tell apart.
    """
    if (synthetic := cohort(config)) is not None:
        synthetic.write(
            config["federation"]["hospitals"], lambda n, of: progress("writing the synthetic cohort", n, of)
        )
    found = {name: _prepare(config, name, progress) for name in config["federation"]["hospitals"]}
    for name, hospital in found.items():
        if not hospital.has_auc:
            log.warning(
                "hospital %s tests %d crops, %d of them positive: it trains, its AUC cannot be told",
                name,
                hospital.tested,
                hospital.positive,
            )
    # Pooled, one hospital's positives stand against another's negatives.
    tested, positive = (sum(getattr(one, what) for one in found.values()) for what in ("tested", "positive"))
    if positive in (0, tested):
        raise EmptySource(
            f"the hospitals test {tested} crops together, {positive} of them positive, so no AUC can be told; check "
            "the labels, or raise split.test"
        )
    for sentence in forecasts(config):
        log.warning("%s", sentence)
    return found


def _prepare(config: Config, name: str, progress: Progress) -> Prepared:
    site, folds = open_site(config, name), held_out_folds(config["split"])
    crops: Crops = site.crops(config, lambda n, of: progress(f"preparing hospital {name}", n, of))
    if not len(crops):
        raise EmptySource(f"hospital {name} has no labelled crop; check its folder and its labels")
    if why := unowned(terms_of(config), crops.refs):
        raise ConfigError(f"hospital {name}: {why}")
    tests = [divide(crops, config["split"], fold=fold, seed=config["seed"]).test for fold in folds]
    tested = np.concatenate([test.labels for test in tests])
    return Prepared(len(set(crops.patients)), len(crops), int(crops.labels.sum()), len(tested), int(tested.sum()))
