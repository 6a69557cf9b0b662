"""What headers say: every stack of slices that a source holds, the usable ones and the others with their reason.

A source that is no DICOM folder has no stacks; its scans are what its tables and headers say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.check.finding import Finding, Level, of_error
from data.dicom.survey import Stack
from data.errors import DataError, NotAScan
from data.sources.dicom_folder import DicomFolder
from data.sources.labels import read_labels
from data.sources.source import Source

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Headers:
    """A source after a look at its headers."""

    findings: tuple[Finding, ...]
    """What is left out, and why."""
    usable: Mapping[str, Finding]
    """Scan uid → what it is."""
    stacks: tuple[Stack, ...]
    source: Source | None
    """As far as it can be read; None where nothing of it can."""


def look_at_headers(source: Source, progress: Progress) -> Headers:
    """Every finding that needs no pixels; a folder that would refuse is looked at without what it refuses."""
    refuses = isinstance(source, DicomFolder) and source.on_problem == "refuse"
    if isinstance(source, DicomFolder) and refuses:
        source = replace(source, on_problem="skip")
    try:
        stacks = source.survey(progress) if isinstance(source, DicomFolder) else []
        found = _left_out(stacks, _faults(source, stacks), refuses=refuses)
    except DataError as error:
        return Headers((of_error(error, Level.REFUSED),), {}, (), None)
    usable = {stack.uid: _accepted(stack) for stack in stacks if stack.error is None}
    try:
        source.scans()
    except DataError as error:
        return Headers((of_error(error, Level.REFUSED), *found), usable, tuple(stacks), _without_labels(source))
    return Headers(tuple(found), usable, tuple(stacks), source)


def _without_labels(source: Source) -> Source | None:
    """Scans can be looked at though labels are at fault. None where they cannot."""
    if not isinstance(source, DicomFolder) or source.labels is None:
        return None
    bare = replace(source, labels=None)
    try:
        bare.scans()
    except DataError:
        return None
    return bare


def _faults(source: Source, stacks: Sequence[Stack]) -> set[int]:
    """Which refused stacks stop a hospital that refuses, by place in the list: as `DicomFolder` decides it."""
    whole = {stack.series_uid for stack in stacks if stack.error is None}
    labelled = _labelled(source)
    return {
        i
        for i, stack in enumerate(stacks)
        if stack.error is not None
        and stack.uid not in whole
        and (
            stack.uid in (labelled or ())
            or (not isinstance(stack.error, NotAScan) and (labelled is None or not stack.uid))
        )
    }


def _labelled(source: Source) -> set[str] | None:
    """Series that labels name; None where there are no labels."""
    if not isinstance(source, DicomFolder) or source.labels is None:
        return None
    try:
        return {uid.partition("#")[0] for uid in read_labels(Path(source.path).expanduser() / source.labels)}
    except DataError:
        return set()  # `scans` says what is wrong with the table


def _left_out(stacks: Sequence[Stack], faults: set[int], *, refuses: bool) -> list[Finding]:
    made = []
    for i, stack in enumerate(stacks):
        if stack.error is None:
            continue
        left_out = Level.NOTE if isinstance(stack.error, NotAScan) else Level.WARNING
        finding = of_error(stack.error, Level.REFUSED if refuses and i in faults else left_out)
        made.append(replace(finding, what=f"{_named(stack)}: {finding.what}"))
    return made


def _accepted(stack: Stack) -> Finding:
    done = "".join(f"; {note}" for note in stack.notes)
    spacing = "" if stack.box is None else " of {:.2f} × {:.2f} × {:.2f} mm".format(*stack.box.spacing_zyx_mm)
    what = f"{_named(stack)}: {stack.slices} slices{spacing}, {stack.scanner or 'unknown scanner'}{done}"
    return Finding(Level.NOTE, "usable", what, "nothing to do")


def _named(stack: Stack) -> str:
    return f"series {stack.uid or '(none)'}" + (f" [{stack.description}]" if stack.description else "")
