"""One look at a folder's headers: every stack of slices in it, usable or not, and why not.

Nothing is lost here: what is DICOM ends in exactly one stack, unless it is a second copy of the same instance.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.dicom.box import Box
from data.dicom.headers import read_planes
from data.dicom.kinds import refuse_other_objects
from data.dicom.plane import Plane
from data.dicom.series import judge
from data.dicom.stacks import Part, parts_of
from data.errors import ContradictoryPatients, EmptyFile, MissingPatient, MissingSeries, ScanError
from data.samples import ScanRef
from data.walk import files_below

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (files looked at, files in all)."""

_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima", ".img", ""}
"""Of a file of zero bytes, only the name tells what it should have been."""


@dataclass(frozen=True)
class Stack:
    """Slices that belong together, as their headers describe them. Everything here is for on-site eyes.

    Pixels are not read: a stack without an error may still fail when it is.
    """

    uid: str
    """SeriesInstanceUID, or "" where files have none. Where a series holds several usable stacks, `#` and what sets
    this one apart follow."""
    patient: str
    """PatientID; "" where there is none."""
    scanner: str
    """Manufacturer, upper case; "" where unknown."""
    description: str
    """SeriesNumber and SeriesDescription as the header has them, and what sets a stack apart from its series."""
    files: tuple[Path, ...]
    slices: int
    """Frames, where files hold several; else files."""
    error: ScanError | None = None
    """Why it is refused; None: usable."""
    notes: tuple[str, ...] = ()
    """What reading will do to the voxels."""
    planes: tuple[Plane, ...] = field(default=(), repr=False)
    box: Box | None = field(default=None, repr=False)

    @property
    def ref(self) -> ScanRef:
        return ScanRef(self.uid, self.patient, self.scanner)

    @property
    def series_uid(self) -> str:
        return self.uid.partition("#")[0]


def survey(
    folder: Path, *, accept: frozenset[str], resample: bool, progress: Progress | None = None
) -> tuple[Stack, ...]:
    """Every stack below `folder`, usable ones and refused ones, sorted by uid, usable ones first.

    Args:
        folder: any tree; names, extensions and depth do not matter.
        accept: codes of what is taken knowingly: `lossy-image`, `derived-image`, `missing-modality`.
        resample: whether missing slices and uneven steps may be interpolated.
        progress: told after each file.
    """
    files = sorted(files_below(folder))
    of_series: dict[str, list[Plane]] = {}
    broken: dict[tuple[Path, type[ScanError]], list[tuple[Path, ScanError]]] = {}
    for done, file in enumerate(files, start=1):
        try:
            for plane in read_planes(file):
                # Without a series, a file's folder is the nearest thing to one.
                of_series.setdefault(plane.header.series_uid or f"#{file.parent}", []).append(plane)
        except EmptyFile as error:
            if file.suffix.lower() in _DICOM_SUFFIXES and not file.name.startswith("."):
                broken.setdefault((file.parent, EmptyFile), []).append((file, error))
        except ScanError as error:
            broken.setdefault((file.parent, type(error)), []).append((file, error))
        if progress:
            progress(done, len(files))
    found = [stack for planes in of_series.values() for stack in _stacks(planes, accept=accept, resample=resample)]
    _LOG.info("%s: %d files, %d stacks, %d of them usable", folder, len(files), len(found), _usable(found))
    return tuple(sorted([*found, *map(_of_broken, broken.values())], key=_rank))


def _stacks(planes: Sequence[Plane], *, accept: frozenset[str], resample: bool) -> list[Stack]:
    """The stacks of one series."""
    patients = sorted({plane.header.patient for plane in planes if plane.header.patient})
    found: list[tuple[Part, Box | ScanError]] = []
    for part in parts_of(planes):
        try:
            _refuse_unowned(part, patients, accept=accept)
            found.append((part, judge(part.planes, accept=accept, resample=resample)))
        except ScanError as error:
            found.append((part, error))
    usable = sum(isinstance(box, Box) for _, box in found)
    return [_stack(part, box, is_one_of_many=usable > 1) for part, box in found]


def _refuse_unowned(part: Part, patients: Sequence[str], *, accept: frozenset[str]) -> None:
    """Splits and privacy count patients: each stack needs a series and exactly one owner."""
    for plane in part.planes:
        refuse_other_objects(plane, accept=accept)  # says more about a report than that it has no owner
    first = part.planes[0]
    for plane in part.planes:
        if not plane.header.series_uid:
            raise MissingSeries(f"{plane.name}: no SeriesInstanceUID; export it again, or leave it out")
        if not plane.header.patient:
            raise MissingPatient(f"{plane.name}: no PatientID; give each patient an id of its own, or leave it out")
    if len(patients) > 1:
        raise ContradictoryPatients(
            f"{first.name}: its series {first.header.series_uid} names {len(patients)} patients "
            f"({patients[0]!r}, {patients[1]!r}); whose it is cannot be told, export it again"
        )


def _stack(part: Part, box: Box | ScanError, *, is_one_of_many: bool) -> Stack:
    header, words = part.planes[0].header, "; ".join(part.words)
    is_usable = isinstance(box, Box)
    described = (header.series_number, header.series_description, f"({words})" if words else "")
    return Stack(
        uid=header.series_uid + (f"#{words}" if is_usable and is_one_of_many else ""),
        patient=header.patient,
        scanner=header.manufacturer.upper(),
        description=" ".join(word for word in described if word),
        files=tuple(dict.fromkeys(plane.header.path for plane in part.planes)),
        slices=len(part.planes),
        error=None if isinstance(box, Box) else box,
        notes=box.remarks if isinstance(box, Box) else (),
        planes=part.planes if is_usable else (),
        box=box if isinstance(box, Box) else None,
    )


def _of_broken(faults: Sequence[tuple[Path, ScanError]]) -> Stack:
    """Files that cannot be read at all: one entry for each folder and kind of fault."""
    return Stack("", "", "", "", tuple(file for file, _ in faults), len(faults), faults[0][1])


def _rank(stack: Stack) -> tuple[str, bool, tuple[Path, ...]]:
    return stack.uid, stack.error is not None, stack.files


def _usable(stacks: Sequence[Stack]) -> int:
    return sum(stack.error is None for stack in stacks)
