"""All crops of one hospital, in a fixed order, and batches of them as the network wants them.

Scans stay on disk, mapped into memory; a batch copies its cubes out of them, turns them while copying and scales the
batch as a whole. Nothing is read, decoded or resampled twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data.augment import Augment, jitter
from data.cache import Cache
from data.errors import BadSetting, EmptySource, PlaceError
from data.preprocess import Preprocess
from data.preprocess.crop import corners_of, cut
from data.samples import Candidate, Sample, ScanRef
from data.sources.source import Source
from data.volume import CtVolume

Indices = Sequence[int] | NDArray[np.integer]

Progress = Callable[[int, int], None]
"""Called with (scans done, scans in all)."""


class Voxels(Protocol):
    """Where the voxels of a prepared scan come from."""

    @property
    def hu_ZYX(self) -> NDArray[np.int16]:  # noqa: N802 — its axes
        """Inside the window."""


@dataclass(frozen=True, eq=False)
class Crops:
    """Labelled crops of one hospital, sorted by scan uid, inside a scan as its source lists them.

    One row a crop in every array; LUNA16's 755,000 candidates take 50 MB.
    """

    preprocess: Preprocess
    refs: tuple[ScanRef, ...]
    """The scans that crops are cut from; a subset keeps them all."""
    volumes: tuple[Voxels, ...]
    """Prepared, one a scan."""
    scan_N: NDArray[np.int64]
    """Index into `refs` and `volumes`."""
    corners_ZYX: NDArray[np.int64]
    """First voxel of each cube in its prepared scan, (N, 3)."""
    centres_xyz_mm: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def scans(self) -> tuple[ScanRef, ...]:
        """The scan of each crop."""
        return tuple(self.refs[scan] for scan in self.scan_N.tolist())

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """The patient of each crop."""
        return tuple(ref.patient for ref in self.scans)

    def sample(self, index: int) -> Sample:
        """One crop with everything that is known of it; x_CZYX has one channel."""
        x_BCZYX, _ = self.batch([index])
        x, y, z = self.centres_xyz_mm[index].tolist()
        ref = self.scans[index]
        return Sample(x_BCZYX[0], int(self.labels[index]), ref.patient, ref.uid, (x, y, z))

    def batch(
        self, indices: Indices, *, augment: Augment | None = None, rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Crops and labels: x_BCZYX (B, 1, size, size, size) in [0, 1], y_B. Both are new arrays.

        With `augment`, changes are drawn from `rng`, crop after crop in the order of `indices`. Raises ValueError where
        there is one and no `rng`: nothing here draws from a generator that nobody named.
        """
        if augment is not None and rng is None:
            raise ValueError("augment needs the rng to draw from")
        rows = np.asarray(indices, np.int64)
        size, window = self.preprocess.size, self.preprocess.window
        drawn = [] if augment is None or rng is None else [augment.draw(rng) for _ in rows]
        hu_BZYX = np.empty((len(rows), size, size, size), np.int16)
        places = zip(self.scan_N[rows].tolist(), self.corners_ZYX[rows].tolist(), strict=True)
        for b, (scan, corner) in enumerate(places):
            cube = cut(self.volumes[scan].hu_ZYX, corner, size=size, air=window.air)
            hu_BZYX[b] = drawn[b].turn(cube) if drawn else cube
        x_BZYX = jitter(window.unit(hu_BZYX), drawn)
        return x_BZYX[:, None], self.labels[rows].astype(np.float32)

    def subset(self, indices: Indices) -> "Crops":
        """These crops, in this order; the scans are shared, not copied."""
        rows = np.asarray(indices, np.int64)
        return replace(
            self,
            scan_N=self.scan_N[rows],
            corners_ZYX=self.corners_ZYX[rows],
            centres_xyz_mm=self.centres_xyz_mm[rows],
            labels=self.labels[rows],
        )


def joined(parts: Sequence[Crops]) -> Crops:
    """The crops of several hospitals as one, in the order of `parts` (training in one place).

    Raises:
        BadSetting: they were prepared in different ways.
    """
    if any(part.preprocess != parts[0].preprocess for part in parts):
        raise BadSetting(f"{len(parts)} sets of crops, not all prepared in the same way; give all one preprocess")
    offsets = np.cumsum([0, *(len(part.refs) for part in parts)])
    return Crops(
        preprocess=parts[0].preprocess,
        refs=tuple(ref for part in parts for ref in part.refs),
        volumes=tuple(volume for part in parts for volume in part.volumes),
        scan_N=np.concatenate([part.scan_N + offset for part, offset in zip(parts, offsets, strict=False)]),
        corners_ZYX=np.concatenate([part.corners_ZYX for part in parts]),
        centres_xyz_mm=np.concatenate([part.centres_xyz_mm for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def open_crops(
    source: Source, preprocess: Preprocess, cache: Cache | None, *, progress: Progress | None = None
) -> Crops:
    """Prepare every labelled scan of a source (or find it prepared) and place its crops.

    Without a cache, prepared scans stay in memory. Voxels that a source has in memory anyway are not kept twice.

    Raises:
        EmptySource: no labelled place in any scan.
        PlaceError: a place outside its scan, or a crop larger than it; the scan is named.
        ScanError, CacheError
    """
    places = [(ref, found) for ref in source.scans() if (found := source.candidates(ref))]
    if not places:
        raise EmptySource(
            f"{type(source).__name__} with {len(source.scans())} scans: no labelled place in any; check its labels"
        )
    cheap = source.resident and preprocess.spacing_mm is None
    parts = []
    for done, (ref, found) in enumerate(places, start=1):
        part = _of_scan(ref, _prepared(source, ref, preprocess, cache), found, preprocess)
        parts.append(replace(part, volumes=(_OfSource(source, ref, preprocess),)) if cheap else part)
        if progress:
            progress(done, len(places))
    return joined(parts)


@dataclass(frozen=True)
class _OfSource:
    """A scan prepared anew for each crop, where that is turning and windowing a cube: 40 µs, against its size twice."""

    source: Source
    ref: ScanRef
    preprocess: Preprocess

    @property
    def hu_ZYX(self) -> NDArray[np.int16]:  # noqa: N802 — its axes
        return self.preprocess.prepare(self.source.read(self.ref)).hu_ZYX


def _prepared(source: Source, ref: ScanRef, preprocess: Preprocess, cache: Cache | None) -> CtVolume:
    if cache is None or source.resident:
        return preprocess.prepare(source.read(ref))
    return cache.get(source, ref, preprocess)


def _of_scan(ref: ScanRef, volume: CtVolume, found: Sequence[Candidate], preprocess: Preprocess) -> Crops:
    centres = np.array([candidate.centre_xyz_mm for candidate in found], dtype=float)
    try:
        corners = corners_of(volume, centres, size=preprocess.size)
    except PlaceError as error:
        raise type(error)(f"scan {ref.uid}: {error}") from error
    labels = np.array([candidate.label for candidate in found], np.int64)
    return Crops(preprocess, (ref,), (volume,), np.zeros(len(found), np.int64), corners, centres, labels)
