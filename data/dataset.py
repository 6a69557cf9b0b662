"""All crops of one hospital, in a fixed order, and batches of them as the network wants them.

Scans stay on disk, mapped into memory; a batch copies its cubes out of them, turns them while copying and scales the
batch as a whole. Nothing is read, decoded or resampled twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data.augment import Augment, jitter
from data.cache import Cache
from data.errors import EmptySource, PlaceError
from data.preprocess import Preprocess
from data.preprocess.crop import Corner, corner_of, cut
from data.samples import Candidate, Sample, ScanRef
from data.sources.source import Source
from data.volume import CtVolume, Point

Progress = Callable[[int, int], None]
"""Called with (scans done, scans in all)."""


@dataclass(frozen=True)
class _Place:
    """One crop: which scan, and where in it."""

    scan: int
    corner: Corner
    candidate: Candidate


@dataclass(frozen=True, eq=False)
class Crops:
    """Labelled crops of one hospital, sorted by scan uid, inside a scan as its source lists them."""

    preprocess: Preprocess
    refs: tuple[ScanRef, ...]
    """The scans that crops are cut from; a subset keeps them all."""
    volumes: tuple[CtVolume, ...]
    """Prepared, one a scan."""
    places: tuple[_Place, ...]

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """One a crop, (N,)."""
        return np.array([place.candidate.label for place in self.places], np.int64)

    @cached_property
    def scans(self) -> tuple[ScanRef, ...]:
        """The scan of each crop."""
        return tuple(self.refs[place.scan] for place in self.places)

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """The patient of each crop."""
        return tuple(ref.patient for ref in self.scans)

    def sample(self, index: int) -> Sample:
        """One crop with everything that is known of it; x_CZYX has one channel."""
        place = self.places[index]
        x_BCZYX, _ = self.batch([index])
        ref = self.refs[place.scan]
        return Sample(x_BCZYX[0], place.candidate.label, ref.patient, ref.uid, place.candidate.centre_xyz_mm)

    def batch(
        self, indices: Sequence[int], *, augment: Augment | None = None, rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops and labels: x_BCZYX (B, 1, size, size, size) in [0, 1], y_B. Both are new arrays.

        With `augment`, changes are drawn from `rng`, crop after crop in the order of `indices`. Raises ValueError where
        there is one and no `rng`: nothing here draws from a generator that nobody named.
        """
        if augment is not None and rng is None:
            raise ValueError("augment needs the rng to draw from")
        size, window = self.preprocess.size, self.preprocess.window
        air = window.air
        drawn = [] if augment is None or rng is None else [augment.draw(rng) for _ in indices]
        hu_BZYX = np.empty((len(indices), size, size, size), np.int16)
        for b, index in enumerate(indices):
            place = self.places[index]
            cube = cut(self.volumes[place.scan].hu_ZYX, place.corner, size=size, air=air)
            hu_BZYX[b] = drawn[b].turn(cube) if drawn else cube
        x_BZYX = jitter(window.unit(hu_BZYX), drawn)
        return x_BZYX[:, None], self.labels[np.asarray(indices, np.intp)].astype(np.float32)

    def subset(self, indices: Sequence[int] | NDArray[np.integer]) -> "Crops":
        """These crops, in this order; the scans are shared, not copied."""
        return replace(self, places=tuple(self.places[int(i)] for i in indices))


def open_crops(
    source: Source, preprocess: Preprocess, cache: Cache | None, *, progress: Progress | None = None
) -> Crops:
    """Prepare every labelled scan of a source (or find it prepared) and place its crops.

    Without a cache, and for sources whose voxels are in memory anyway, prepared scans stay in memory.

    Raises:
        EmptySource: no labelled place in any scan.
        PlaceError: a place outside its scan, or a crop larger than it; the scan is named.
        ScanError, CacheError
    """
    refs = [ref for ref in source.scans() if source.candidates(ref)]
    if not refs:
        raise EmptySource(
            f"{type(source).__name__} with {len(source.scans())} scans: no labelled place in any; check its labels"
        )
    volumes: list[CtVolume] = []
    places: list[_Place] = []
    for scan, ref in enumerate(refs):
        volumes.append(_prepared(source, ref, preprocess, cache))
        places += [_Place(scan, _corner(volumes[-1], ref, c, preprocess), c) for c in source.candidates(ref)]
        if progress:
            progress(scan + 1, len(refs))
    return Crops(preprocess, tuple(refs), tuple(volumes), tuple(places))


def joined(several: Sequence[Crops]) -> Crops:
    """The crops of several hospitals in one, in order; scans are shared, not copied. Prepared alike, all of them."""
    first = np.cumsum([0, *(len(crops.refs) for crops in several)]).tolist()
    return Crops(
        several[0].preprocess,
        tuple(ref for crops in several for ref in crops.refs),
        tuple(volume for crops in several for volume in crops.volumes),
        tuple(
            replace(place, scan=place.scan + offset)
            for crops, offset in zip(several, first, strict=False)
            for place in crops.places
        ),
    )


def _prepared(source: Source, ref: ScanRef, preprocess: Preprocess, cache: Cache | None) -> CtVolume:
    if cache is None or source.resident:
        return preprocess.prepare(source.read(ref))
    return cache.get(source, ref, preprocess)


def _corner(volume: CtVolume, ref: ScanRef, candidate: Candidate, preprocess: Preprocess) -> Corner:
    centre: Point = candidate.centre_xyz_mm
    try:
        return corner_of(volume, centre, size=preprocess.size)
    except PlaceError as error:
        raise type(error)(f"scan {ref.uid}: {error}") from error
