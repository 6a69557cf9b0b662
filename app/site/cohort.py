"""The synthetic cohort of a simulation: written once under FEDVOX_HOME/cohorts, found again by its settings."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.home import home
from data.synthetic import write_cohort

TARGET = f"{__name__}.SyntheticCohort"


@dataclass(frozen=True)
class SyntheticCohort:
    """Thorax phantoms for every hospital of a federation, as each would have them on disk."""

    patients: int
    """Of all hospitals together."""
    seed: int = 0
    frame: Mapping[str, Any] = field(default_factory=dict)
    """What of a patient is scanned, and how finely: settings of `data.synthetic.phantom.Frame`; {}: its own."""

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise ValueError(f"source.patients={self.patients}: at least one patient a hospital is needed")

    def folder(self, hospitals: Mapping[str, Any]) -> Path:
        """Where the cohort lies, or will."""
        settings = json.dumps([asdict(self), _orders(self, hospitals)], sort_keys=True)
        return home() / "cohorts" / hashlib.sha256(settings.encode()).hexdigest()[:16]

    def write(self, hospitals: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Path:
        """Write what is not there yet; the folder of the cohort."""
        folder = self.folder(hospitals)
        self.write_to(folder, hospitals, progress)
        return folder

    def write_to(
        self, folder: Path, hospitals: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write the cohort into a folder of one's choice."""
        write_cohort(folder, hospitals=_orders(self, hospitals), seed=self.seed, progress=progress)


def is_cohort(source: Mapping[str, Any]) -> bool:
    """Is this source node the synthetic cohort?"""
    return source.get("_target_") == TARGET


def _orders(cohort: SyntheticCohort, hospitals: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each hospital gets: its share of the patients, at least one."""
    counts = _counts(cohort.patients, [float(facts.get("share", 1.0)) for facts in hospitals.values()])
    return {
        name: {
            **cohort.frame,
            "patients": count,
            "scanner": facts.get("scanner", "GE"),
            "format": facts.get("format", "dicom"),
        }
        for (name, facts), count in zip(hospitals.items(), counts, strict=True)
    }


def _counts(patients: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `shares` that add up (largest remainder); none is below one."""
    exact = [patients * share / sum(shares) for share in shares]
    counts = [int(number) for number in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: patients - sum(counts)]:
        counts[i] += 1
    return [max(1, count) for count in counts]
