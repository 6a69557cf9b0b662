"""A hospital's data at a glance: how much there is, of whom, from which scanners, how fine, how it is labelled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.check.pixels import Read
from data.dicom.survey import Stack
from data.samples import ScanRef
from data.sources.source import Source
from data.statistics.vendors import OTHER


@dataclass(frozen=True)
class Summary:
    """For on-site eyes: counts are exact, scanners have the names that headers give them."""

    scans: int
    patients: int
    labels: Mapping[str, int]
    """Places by class."""
    labelled_scans: int
    scanners: Mapping[str, int]
    """Scans by manufacturer."""
    spacing_mm: Mapping[str, tuple[float, float]]
    """Least and largest distance of slices and of pixels; empty where nothing was read."""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def summary_of(source: Source | None, stacks: Sequence[Stack], reads: Sequence[Read]) -> Summary:
    """Count what can be used."""
    refs: list[ScanRef] = source.scans() if source is not None else []
    of_scan = [source.candidates(ref) for ref in refs] if source is not None else []
    labels = Counter(place.label for places in of_scan for place in places)
    return Summary(
        scans=len(refs),
        patients=len({ref.patient for ref in refs}),
        labels={"positive": labels[1], "negative": labels[0]},
        labelled_scans=sum(map(bool, of_scan)),
        scanners=dict(sorted(Counter(ref.scanner or OTHER for ref in refs).items())),
        spacing_mm=_spacings(stacks, reads),
    )


def _spacings(stacks: Sequence[Stack], reads: Sequence[Read]) -> dict[str, tuple[float, float]]:
    """From the scans that were read; else from headers."""
    pairs = [(read.numbers["slice_mm"], read.numbers["pixel_mm"]) for read in reads if read.numbers]
    if not pairs:
        boxes = [stack.box.spacing_zyx_mm for stack in stacks if stack.box is not None]
        pairs = [(spacing[0], max(spacing[1:])) for spacing in boxes]
    if not pairs:
        return {}
    slices, pixels = zip(*pairs, strict=True)
    return {"slices": (min(slices), max(slices)), "pixels": (min(pixels), max(pixels))}
