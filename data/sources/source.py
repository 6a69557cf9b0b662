"""What every place that scans come from can do."""

from typing import Protocol

from data.samples import Candidate, ScanRef
from data.volume import CtVolume


class Source(Protocol):
    """Scans of one hospital, and the places in them that are labelled.

    Sources are frozen dataclasses of plain values (they are written in YAML); what they find on disk is found on the
    first call and remembered, so one source is one look at the disk.
    """

    @property
    def resident(self) -> bool:
        """True where the voxels are in memory already, so that a cache of prepared scans would only copy them."""

    def scans(self) -> list[ScanRef]:
        """All scans, sorted by uid, from headers alone. Raises SourceError where nothing can be trained on."""

    def read(self, ref: ScanRef) -> CtVolume:
        """The voxels of one scan. Raises ScanError, or UnknownScan."""

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        """The labelled places in one scan, in a fixed order; may be empty."""

    def stamp(self, ref: ScanRef) -> str:
        """Changes when the scan on disk changes: the cache's evidence that a prepared copy is still true."""
