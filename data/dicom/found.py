"""What a look at headers found: every stack of slices in a folder, usable or not, and why not."""

from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from data.samples import ScanRef


@dataclass(frozen=True)
class Stack:
    """Slices that belong together, as one look at their headers found them. Everything here is for on-site eyes.

    Pixels are not read: a stack without an error may still fail when it is.
    """

    uid: str
    """The scan's uid where it is usable; else SeriesInstanceUID, or "" where files have none."""
    patient: str
    """PatientID; "" where there is none."""
    scanner: str
    """Manufacturer, upper case; "" where unknown."""
    description: str
    """SeriesNumber and SeriesDescription as the header has them."""
    files: tuple[Path, ...]
    slices: int
    """Frames, where files hold several; else files."""
    error: DataError | None = None
    """Why it is refused; None: usable."""

    @property
    def ref(self) -> ScanRef:
        return ScanRef(self.uid, self.patient, self.scanner)
