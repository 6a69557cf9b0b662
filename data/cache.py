"""Prepared scans on disk: written once, mapped into memory by every run after.

An entry is one file, named by what it was made from: scan uid × the scan's stamp on disk × preprocessing. If any of
them changes, so does the name; nothing is ever stale. Layout: one line of JSON (geometry, shape, checksum), padded to
a page, then the int16 voxels.

Any number of processes may fill one cache: an entry appears whole, by rename, or not at all.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from data.errors import BadCacheEntry, CacheError, CacheFull
from data.preprocess import Preprocess
from data.samples import ScanRef
from data.sources.source import Source
from data.volume import CtVolume, Direction, Point

FORMAT = "fedvox prepared scan 1"

_PAGE = 4096
"""Bytes before the voxels: memory is mapped in pages, and no header of ours is longer."""

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Cache:
    """A folder of prepared scans. It is made when first written to."""

    path: str

    def get(self, source: Source, ref: ScanRef, preprocess: Preprocess) -> CtVolume:
        """The prepared scan, memory-mapped and read-only; prepared and stored first where it is not there yet.

        Raises:
            CacheFull: no room on the disk; nothing half-written is left.
            CacheError: the folder cannot be used.
            ScanError: the scan cannot be read.
        """
        entry = self._entry(source, ref, preprocess)
        found = _open_if_whole(entry)
        if found is not None:
            return found
        with self._filling(entry):
            # Another process may have filled it while this one waited.
            found = _open_if_whole(entry)
            if found is None:
                _write(entry, preprocess.prepare(source.read(ref)))
                found = _open(entry)
        return found

    def _entry(self, source: Source, ref: ScanRef, preprocess: Preprocess) -> Path:
        made_from = json.dumps([FORMAT, ref.uid, source.stamp(ref), preprocess.volume_fingerprint()])
        name = hashlib.sha256(made_from.encode()).hexdigest()[:32]
        return Path(self.path).expanduser().absolute() / name[:2] / f"{name}.scan"

    @contextmanager
    def _filling(self, entry: Path) -> Iterator[None]:
        """One process at a time prepares one entry; the others wait for it instead of preparing it too."""
        with _explained(entry):
            entry.parent.mkdir(parents=True, exist_ok=True)
            lock = entry.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            entry.with_suffix(".lock").unlink(missing_ok=True)
            lock.close()


def _open_if_whole(entry: Path) -> CtVolume | None:
    """None where there is no entry, or one that cannot be used: it is then written again."""
    try:
        with _explained(entry):
            return _open(entry) if entry.is_file() else None
    except BadCacheEntry:
        return None


def _open(entry: Path) -> CtVolume:
    with entry.open("rb") as file:
        head = _parsed(file.read(_PAGE), entry)
        voxels = os.fstat(file.fileno()).st_size - _PAGE
    shape = tuple(int(n) for n in head["shape"])
    if voxels != 2 * int(np.prod(shape)):
        raise BadCacheEntry(f"{entry}: {voxels} bytes of voxels, shape {shape} needs {2 * int(np.prod(shape))}")
    return CtVolume(
        hu_ZYX=np.memmap(entry, np.dtype("<i2"), mode="r", offset=_PAGE, shape=shape).view(np.ndarray),
        spacing_zyx_mm=cast(Point, tuple(head["spacing_zyx_mm"])),
        origin_xyz_mm=cast(Point, tuple(head["origin_xyz_mm"])),
        direction=cast(Direction, tuple(tuple(row) for row in head["direction"])),
        provenance=tuple(head["provenance"]),
    )


def _parsed(page: bytes, entry: Path) -> dict[str, Any]:
    try:
        head = json.loads(page)
    except ValueError as error:
        raise BadCacheEntry(f"{entry}: not a prepared scan; delete the file") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise BadCacheEntry(f"{entry}: not written by this version; delete the file")
    return head


def _write(entry: Path, volume: CtVolume) -> None:
    """Aside, to the disk, and only then under its name: no reader ever sees half an entry."""
    aside = entry.with_suffix(f".{secrets.token_hex(4)}.tmp")
    voxels = np.ascontiguousarray(volume.hu_ZYX, dtype="<i2")
    with _explained(entry, needed=_PAGE + voxels.nbytes):
        try:
            with aside.open("wb") as file:
                file.write(_header(volume, zlib.crc32(voxels.data)))
                file.write(voxels.data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(entry)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _header(volume: CtVolume, checksum: int) -> bytes:
    head = {
        "format": FORMAT,
        "shape": volume.hu_ZYX.shape,
        "spacing_zyx_mm": volume.spacing_zyx_mm,
        "origin_xyz_mm": volume.origin_xyz_mm,
        "direction": volume.direction,
        "provenance": volume.provenance,
        "crc32": checksum,
    }
    return json.dumps(head).encode().ljust(_PAGE)


@contextmanager
def _explained(entry: Path, *, needed: int = 0) -> Iterator[None]:
    """The operating system's errors as ours."""
    try:
        yield
    except OSError as error:
        folder = entry.parent.parent
        if error.errno in _DISK_FULL:
            raise CacheFull(
                f"{folder}: no room for a prepared scan of {needed / 1e6:.1f} MB ({error.strerror}); free some space, "
                "or set cache_dir to a larger disk"
            ) from error
        raise CacheError(f"{folder}: cannot be used ({error.strerror}); correct cache_dir or its rights") from error
