"""Sets of ready-made cubes in one .npz: ours, and MedMNIST-3D's. Each cube is one scan with one place, its centre.

Ours:      x (N, D, H, W) uint8 or int16, y (N,), and optionally patient, vendor (N,) text.
MedMNIST:  train_images (N, D, H, W) uint8, train_labels (N, 1); val_*, test_* likewise. No patients.

Where patients are not told, each cube counts as one, and says that it is not known (`ScanRef.is_patient_known`).

Voxel values are kept as they are (grey values 0 to 255 want `window_hu: [0, 255]` and `spacing_mm: null`); voxels
count as 1 mm. Sources: arXiv:2110.14795 (MedMNIST v2) for the second layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from data.errors import BadArchive, EmptySource, MissingFolder, UnknownScan
from data.samples import Candidate, ScanRef
from data.sources.files import files_stamp
from data.volume import CtVolume, as_hu

_MEDMNIST = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class _Archive:
    """One .npz, both layouts made one."""

    x_NZYX: NDArray[Any]
    y_N: NDArray[np.int64]
    patients: tuple[str, ...]
    """Empty where the set names none."""
    vendors: tuple[str, ...]
    """Empty where the set names none; upper case."""


@dataclass(frozen=True)
class Cubes:
    """The cubes of one .npz file.

    Args:
        path: the .npz file.
        vendor: keep the cubes of one scanner manufacturer only (ours), in any case; None keeps all.
        splits: which parts of a MedMNIST file to join.
        one_scan_a_patient: the hospital's word that no two cubes are of one person, for a set that names no patients.

    Raises:
        MissingFolder: no such file.
        BadArchive: keys missing, arrays that do not fit together, or values that are no grey values.
        EmptySource: no cube is left.
    """

    path: str
    vendor: str | None = None
    splits: Sequence[str] = _MEDMNIST
    one_scan_a_patient: bool = False

    @property
    def resident(self) -> bool:
        return True

    def scans(self) -> list[ScanRef]:
        return list(self._scans)

    def read(self, ref: ScanRef) -> CtVolume:
        cube = self._archive.x_NZYX[self._row(ref)]
        return CtVolume(as_hu(cube, where=ref.uid), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(0.0, 0.0, 0.0))

    def candidates(self, ref: ScanRef) -> list[Candidate]:
        depth, rows, columns = self._archive.x_NZYX.shape[1:]
        centre = (float(columns // 2), float(rows // 2), float(depth // 2))
        return [Candidate(centre, int(self._archive.y_N[self._row(ref)]))]

    def stamp(self, ref: ScanRef) -> str:
        file = self._file
        return files_stamp([file], below=file.parent)

    @cached_property
    def _file(self) -> Path:
        file = Path(self.path).expanduser().absolute()
        if not file.is_file():
            raise MissingFolder(f"{file}: no such file; an .npz of cubes is needed, correct source.path")
        return file

    @cached_property
    def _archive(self) -> _Archive:
        return _open_archive(self._file, self._file.stat().st_mtime_ns, tuple(self.splits))

    @cached_property
    def _scans(self) -> tuple[ScanRef, ...]:
        archive, stem = self._archive, self._file.stem
        rows = _of_vendor(archive, self.vendor, self._file)
        uids = [f"{stem}#{row:06d}" for row in rows]
        patients = [archive.patients[row] for row in rows] if archive.patients else uids
        scanners = [archive.vendors[row] for row in rows] if archive.vendors else [""] * len(rows)
        is_known = bool(archive.patients) or self.one_scan_a_patient
        return tuple(ScanRef(*told, is_patient_known=is_known) for told in zip(uids, patients, scanners, strict=True))

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {ref.uid: int(ref.uid.rpartition("#")[2]) for ref in self._scans}

    def _row(self, ref: ScanRef) -> int:
        if ref.uid not in self._rows:
            raise UnknownScan(f"{self._file}: no cube {ref.uid} among {len(self._rows)}")
        return self._rows[ref.uid]


def _of_vendor(archive: _Archive, vendor: str | None, file: Path) -> list[int]:
    """Rows of one vendor; all where none is asked for."""
    everything = range(len(archive.y_N))
    if vendor is None:
        rows = list(everything)
    elif not archive.vendors:
        raise BadArchive(f"{file}: has no key 'vendor', so vendor={vendor} cannot be chosen; leave source.vendor out")
    else:
        rows = [row for row in everything if archive.vendors[row] == vendor.strip().upper()]
    if not rows:
        among = f" of vendor {vendor!r} (found {', '.join(sorted(set(archive.vendors)))})" if vendor else ""
        raise EmptySource(f"{file}: no cubes{among}; nothing can be trained on")
    return rows


@lru_cache(maxsize=2)
def _open_archive(file: Path, _changed: int, splits: tuple[str, ...]) -> _Archive:
    """Read once a process: the hospitals of a simulation are vendors of one file. `_changed` renews it."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return _ours(stored, file) if "x" in stored else _medmnist(stored, file, splits)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BadArchive(f"{file}: not a readable .npz ({error}); copy it again") from error


def _ours(stored: Mapping[str, NDArray[Any]], file: Path) -> _Archive:
    if "y" not in stored:
        raise BadArchive(f"{file}: has x but no y (keys: {', '.join(stored)}); y (N,) are the labels")
    optional = {key: stored[key] for key in ("patient", "vendor") if key in stored}
    x, y = _checked(stored["x"], stored["y"], file)
    for key, values in optional.items():
        if values.shape != y.shape:
            raise BadArchive(f"{file}: {key} has shape {values.shape}, y has {y.shape}; one value a cube is needed")
    patients, vendors = (tuple(str(value).strip() for value in optional.get(key, ())) for key in ("patient", "vendor"))
    if "" in patients:
        raise BadArchive(f"{file}: cube {patients.index('')} has no patient; give each one an id")
    return _Archive(x, y, patients, tuple(vendor.upper() for vendor in vendors))


def _medmnist(stored: Mapping[str, NDArray[Any]], file: Path, splits: tuple[str, ...]) -> _Archive:
    keys = [f"{split}_{part}" for split in splits for part in ("images", "labels")]
    if missing := [key for key in keys if key not in stored]:
        raise BadArchive(
            f"{file}: no {', '.join(missing)} (keys: {', '.join(stored) or 'none'}); either x and y, or MedMNIST's "
            "train_images, train_labels, val_…, test_… are needed"
        )
    x = np.concatenate([stored[f"{split}_images"] for split in splits])
    y = np.concatenate([stored[f"{split}_labels"] for split in splits])
    return _Archive(*_checked(x, y.reshape(len(y), -1)[:, 0], file), patients=(), vendors=())


def _checked(x: NDArray[Any], y: NDArray[Any], file: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if x.ndim != 4 or len(x) != len(y):
        raise BadArchive(f"{file}: cubes of shape {x.shape} with labels {y.shape}; (N, D, H, W) with (N,) is needed")
    if x.dtype.kind not in "ui" or y.dtype.kind not in "ui":
        raise BadArchive(f"{file}: cubes are {x.dtype}, labels {y.dtype}; whole numbers are needed (uint8 or int16)")
    x.setflags(write=False)
    return x, y.astype(np.int64)
