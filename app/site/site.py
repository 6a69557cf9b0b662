"""One hospital, ready to work: its scans, and which of its patients train, steer and test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.config import Config, build
from app.site.site_file import KEEP_RUNS
from data.cache import Cache
from data.dataset import Crops, open_crops
from data.partition import Case, folds, official_folds, split
from data.sources import Source


@dataclass(frozen=True)
class Site:
    """A hospital's own things. Nothing of it leaves but through `app.site.shield`."""

    name: str
    source: Source
    cache_dir: Path
    state_dir: Path
    device: str
    policy: Mapping[str, Any]
    data_age_months: float | None
    ledger_key: Path
    """Whoever has it can forge the ledger."""
    cache_gb: float | None = None
    """The most that `cache_dir` may hold; None: as much as the disk has."""
    keep_runs: int = KEEP_RUNS
    """Of so many runs replies are kept."""

    def crops(self, config: Config, progress: Callable[[int, int], None] | None = None) -> Crops:
        """All crops of the hospital, prepared and cached on the way."""
        return open_crops(
            self.source, build(config["preprocess"]), Cache(str(self.cache_dir), self.cache_gb), progress=progress
        )


@dataclass(frozen=True)
class Parts:
    """A hospital's crops by what they are for; no patient is in two of them."""

    train: Crops
    validation: Crops
    test: Crops


def divide(crops: Crops, settings: Mapping[str, Any], *, fold: int, seed: int) -> Parts:
    """Divide by patient: by keyed hash, or with fold `fold` held out as the test."""
    test = _held_out(crops, settings, fold=fold, seed=seed)
    place = split(
        sorted(set(crops.patients) - test),
        key=settings["key"],
        test=settings["test"] if fold < 0 else 0.0,
        validation=settings["validation"],
    )
    where = np.array([place.get(patient, "test") for patient in crops.patients], dtype=object)
    train, validation, held = (crops.subset(np.flatnonzero(where == part)) for part in ("train", "validation", "test"))
    return Parts(train, validation, held)


def _held_out(crops: Crops, settings: Mapping[str, Any], *, fold: int, seed: int) -> set[str]:
    if fold < 0:
        return set()
    if settings["official"]:
        return {patient for patient, its_fold in official_folds(crops.scans).items() if its_fold == fold}
    cases = [Case(r.patient, int(label), r.scanner) for r, label in zip(crops.scans, crops.labels, strict=True)]
    assigned = folds(cases, n=settings["folds"], seed=seed)
    return {patient for patient, its_fold in assigned.items() if its_fold == fold}
