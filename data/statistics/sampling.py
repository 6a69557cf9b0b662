"""Which scans and crops of a hospital are looked at: a few, always the same, of as many patients as can be."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from data.errors import BadSetting
from data.samples import Candidate, ScanRef
from data.sources.source import Source


@dataclass(frozen=True)
class Listed:
    """A scan and the labelled places in it."""

    ref: ScanRef
    places: tuple[Candidate, ...]

    @property
    def positives(self) -> int:
        return sum(place.label for place in self.places)


def listed(source: Source) -> list[Listed]:
    """Every scan of a source with its places. Raises SourceError."""
    return [Listed(ref, tuple(source.candidates(ref))) for ref in source.scans()]


@dataclass(frozen=True)
class Sampling:
    """How much is looked at. Raises BadSetting where that is nothing."""

    scans: int = 12
    """Of different patients, where there are so many."""
    crops: int = 400
    """Of those scans, together; also how many ready-made cubes are looked at."""

    def __post_init__(self) -> None:
        if self.scans < 1 or self.crops < 1:
            raise BadSetting(f"comparison.sampling is {self.scans} scans and {self.crops} crops; at least one of each")

    def choose(self, scans: Sequence[Listed], *, are_cubes: bool) -> list[Listed]:
        """Scans with positives first, then labelled ones; of each patient one before any second; among equals by hash.

        Each comes with the places that are looked at: as many of either class as its share of the crops, spread over
        all of the class.
        """
        ordered = sorted(scans, key=lambda scan: (not scan.positives, not scan.places, _address(scan.ref)))
        seen: dict[str, int] = {}
        ranks = []
        for scan in ordered:
            ranks.append(seen.get(scan.ref.patient, 0))
            seen[scan.ref.patient] = ranks[-1] + 1
        most = self.crops if are_cubes else self.scans
        chosen = [ordered[i] for i in sorted(range(len(ordered)), key=lambda i: (ranks[i], i))[:most]]
        quota = max(1, self.crops // (2 * max(len(chosen), 1)))
        return [Listed(scan.ref, (*_thinned(scan, 0, quota), *_thinned(scan, 1, quota))) for scan in chosen]


def _address(ref: ScanRef) -> str:
    return hashlib.sha256(ref.uid.encode()).hexdigest()


def _thinned(scan: Listed, label: int, quota: int) -> Sequence[Candidate]:
    of_class = [place for place in scan.places if place.label == label]
    return of_class[:: max(1, -(-len(of_class) // quota))]
