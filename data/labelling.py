"""Labels for a source that has none, or findings alone: from LIDC-IDRI's XML, and from places inside the lungs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.dicom.place import place_of
from data.errors import BadReading, BadSetting, EmptySource
from data.lidc import Reading, nodules_of, read_reading
from data.lidc.nodules import READERS, SMALLEST_MM, Nodule
from data.negatives import Negatives
from data.samples import Candidate, ScanRef
from data.sources.dicom_folder import DicomFolder
from data.sources.source import Source
from data.walk import files_below

Labelled = tuple[str, list[Candidate]]
"""Scan uid, places."""

LIKELY_BENIGN, LIKELY_MALIGNANT = 2.5, 3.5
"""Of the median rating: below and above; between them readers do not know, and the nodule is left out."""


@dataclass(frozen=True)
class LidcRule:
    """Which of LIDC-IDRI's nodules count, and as what.

    Args:
        path: a folder with XML files anywhere below it, linked folders too; those of other scans are passed over.
        readers: how many of four must have outlined a nodule.
        smallest_mm: least diameter.
        by_malignancy: 1 is a nodule rated malignant and 0 one rated benign; else every nodule is 1.
    """

    path: str
    readers: int = READERS
    smallest_mm: float = SMALLEST_MM
    by_malignancy: bool = False

    def places(self, folder: DicomFolder, ref: ScanRef, reading: Reading) -> list[Candidate]:
        """Of one scan. Raises BadReading."""
        stack = folder.stack(ref)
        slices = {plane.header.sop_uid: place_of(plane) for plane in stack.planes}
        if stack.box is None:
            return []
        nodules = nodules_of(
            reading,
            slices,
            thickness_mm=stack.box.spacing_zyx_mm[0],
            readers=self.readers,
            smallest_mm=self.smallest_mm,
        )
        return [place for nodule in nodules if (place := self._candidate(nodule)) is not None]

    def _candidate(self, nodule: Nodule) -> Candidate | None:
        if not self.by_malignancy:
            return Candidate(nodule.centre_xyz_mm, 1, nodule.diameter_mm)
        rated = nodule.malignancy
        if rated is None or LIKELY_BENIGN <= rated <= LIKELY_MALIGNANT:
            return None
        return Candidate(nodule.centre_xyz_mm, int(rated > LIKELY_MALIGNANT), nodule.diameter_mm)


def labelled(
    source: Source,
    *,
    lidc: LidcRule | None = None,
    negatives: Negatives | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Labelled]:
    """Places of every scan: the source's own, or LIDC's readers'; and negatives drawn beside them.

    Raises:
        BadSetting: LIDC's slices are told by their UIDs, which only DICOM has.
        EmptySource: no XML below the folder tells of any of the scans.
        BadReading, SourceError, ScanError
    """
    refs = source.scans()
    findings = _own(source, refs) if lidc is None else _lidc(source, refs, lidc)
    for done, ref in enumerate(refs, start=1):
        found = findings.get(ref.uid, [])
        drawn = negatives.draw(source.read(ref), found, uid=ref.uid) if negatives is not None else []
        if found or drawn:
            yield ref.uid, [*found, *drawn]
        progress(done, len(refs))


def _own(source: Source, refs: Sequence[ScanRef]) -> Mapping[str, list[Candidate]]:
    return {ref.uid: source.candidates(ref) for ref in refs}


def _lidc(source: Source, refs: Sequence[ScanRef], rule: LidcRule) -> Mapping[str, list[Candidate]]:
    if not isinstance(source, DicomFolder):
        raise BadSetting("LIDC-IDRI's XML goes with its DICOM series; name their folder as the source")
    readings = _readings(Path(rule.path).expanduser())
    found = {ref.uid: rule.places(source, ref, readings[ref.uid]) for ref in refs if ref.uid in readings}
    if not found:
        raise EmptySource(
            f"{rule.path}: {len(readings)} readings of CT scans, none of any of the {len(refs)} scans; name the folder "
            "of their XML files"
        )
    return found


def _readings(folder: Path) -> Mapping[str, Reading]:
    """By series. The set's folders hold XML of chest X-rays too, which is none of ours."""
    found: dict[str, Reading] = {}
    for file in sorted(file for file in files_below(folder) if file.suffix.lower() == ".xml"):
        try:
            reading = read_reading(file)
        except BadReading:
            if b"LidcReadMessage" in file.read_bytes():
                raise
            continue
        found.setdefault(reading.series_uid, reading)
    return found
