"""Sources made of sources: a hospital's share of a set, and several hospitals as one (pooled training)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from data.errors import PartitionError, UnknownScan
from data.samples import Candidate, ScanRef
from data.sources.source import Source
from data.volume import CtVolume


@dataclass(frozen=True)
class Subset:
    """Some scans of a source, by themselves."""

    source: Source
    refs: tuple[ScanRef, ...]

    @classmethod
    def of_patients(cls, source: Source, patients: Sequence[str]) -> "Subset":
        """The scans of some patients. A patient comes with all scans or not at all.

        Raises PartitionError where a named patient is not in the source.
        """
        mine = frozenset(patients)
        refs = tuple(ref for ref in source.scans() if ref.patient in mine)
        if absent := mine - {ref.patient for ref in refs}:
            raise PartitionError(
                f"{len(absent)} of {len(mine)} patients of this share are not in its source (first: {min(absent)!r}); "
                "partition the set that is there now"
            )
        return cls(source, refs)

    @property
    def resident(self) -> bool:
        return self.source.resident

    def scans(self) -> list[ScanRef]:
        return list(self.refs)

    def read(self, ref: ScanRef) -> CtVolume:
        return self.source.read(ref)

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        return self.source.candidates(ref)

    def stamp(self, ref: ScanRef) -> str:
        return self.source.stamp(ref)


@dataclass(frozen=True)
class Union:
    """Several sources as one, as if all hospitals were one place: the yardstick of federated training.

    Raises PartitionError where two sources hold a scan of the same uid.
    """

    sources: Sequence[Source]

    @property
    def resident(self) -> bool:
        return all(source.resident for source in self.sources)

    def scans(self) -> list[ScanRef]:
        return sorted((ref for ref, _ in self._home.values()), key=lambda ref: ref.uid)

    def read(self, ref: ScanRef) -> CtVolume:
        return self._source(ref).read(ref)

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        return self._source(ref).candidates(ref)

    def stamp(self, ref: ScanRef) -> str:
        return self._source(ref).stamp(ref)

    def _source(self, ref: ScanRef) -> Source:
        if ref.uid not in self._home:
            raise UnknownScan(f"scan {ref.uid} is in none of the {len(self.sources)} sources that are pooled")
        return self._home[ref.uid][1]

    @cached_property
    def _home(self) -> Mapping[str, tuple[ScanRef, Source]]:
        home: dict[str, tuple[ScanRef, Source]] = {}
        for source in self.sources:
            for ref in source.scans():
                if ref.uid in home:
                    raise PartitionError(f"scan {ref.uid} is in two of the sources that are pooled; keep it in one")
                home[ref.uid] = (ref, source)
        return home
