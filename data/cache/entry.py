"""One prepared scan as a file: a page with a line of JSON (geometry, shape, checksum), then the int16 voxels.

The line begins with a checksum of its own, which is always compared. That of the voxels is compared when an entry is
opened, but not by every process of every round: reading a hospital's whole cache for it takes minutes. Whoever has
compared it seals the entry: its time of last change is set to now, with the entry's own digits behind the second. A
seal is believed for an hour; whatever else writes into the file breaks it, and on a disk that keeps no fractions of
seconds none holds and every opening compares.

Who has an entry open holds a shared lock on it for as long as the memory is mapped: it is not thrown out meanwhile.
"""

import fcntl
import hashlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from data.errors import BadCacheEntry
from data.volume import CtVolume, Direction, Point

FORMAT = "fedvox prepared scan 2"

PAGE = 4096
"""Bytes before the voxels: memory is mapped in pages, and no header of ours is longer."""

BELIEVED_S = 3600
"""How long a seal holds."""

_CHECKSUM = len("01234567 ")

_SECOND_NS = 10**9


def open_entry(entry: Path) -> CtVolume | None:
    """The scan, memory-mapped and read-only; None where there is no entry.

    Raises:
        BadCacheEntry: damaged, or none of ours.
        OSError
    """
    try:
        file = entry.open("rb")
    except FileNotFoundError:
        return None
    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        head = _parsed(file.read(PAGE), entry)
        return _mapped(file, head, entry)


def write_entry(entry: Path, volume: CtVolume) -> CtVolume:
    """Aside, to the disk, and only then under its name: no reader ever sees half an entry. Returns it mapped.

    Raises OSError.
    """
    aside = entry.with_suffix(f".{secrets.token_hex(4)}.tmp")
    voxels = np.ascontiguousarray(volume.hu_ZYX, dtype="<i2")
    head = _head(volume, zlib.crc32(voxels.data))
    try:
        with aside.open("w+b") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            file.write(_page(head))
            file.write(voxels.data)
            file.flush()
            os.fsync(file.fileno())
            _seal(file, entry)
            aside.replace(entry)
            return _mapped(file, head, entry)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _head(volume: CtVolume, checksum: int) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "shape": volume.hu_ZYX.shape,
        "spacing_zyx_mm": volume.spacing_zyx_mm,
        "origin_xyz_mm": volume.origin_xyz_mm,
        "direction": volume.direction,
        "provenance": volume.provenance,
        "crc32": checksum,
    }


def _page(head: Mapping[str, Any]) -> bytes:
    line = json.dumps(head).encode()
    return (_checksum(line) + line).ljust(PAGE)


def _parsed(page: bytes, entry: Path) -> dict[str, Any]:
    line = page[_CHECKSUM:].rstrip()
    if page[:_CHECKSUM] != _checksum(line):
        raise BadCacheEntry(f"{entry}: not a prepared scan, or a damaged one; delete the file")
    head: dict[str, Any] = json.loads(line)
    return head


def _checksum(line: bytes) -> bytes:
    return f"{zlib.crc32(line):08x} ".encode()


def _mapped(file: BinaryIO, head: dict[str, Any], entry: Path) -> CtVolume:
    shape, there = tuple(int(n) for n in head["shape"]), os.fstat(file.fileno()).st_size - PAGE
    if there != 2 * int(np.prod(shape)):
        raise BadCacheEntry(f"{entry}: {there} bytes of voxels, shape {shape} needs {2 * int(np.prod(shape))}")
    voxels = np.memmap(file, np.dtype("<i2"), mode="r", offset=PAGE, shape=shape).view(np.ndarray)
    if not _is_sealed(file, entry):
        if zlib.crc32(voxels.data) != head["crc32"]:
            raise BadCacheEntry(f"{entry}: voxels are not what was written; delete the file")
        _seal(file, entry)
    return CtVolume(
        hu_ZYX=voxels,
        spacing_zyx_mm=cast(Point, tuple(head["spacing_zyx_mm"])),
        origin_xyz_mm=cast(Point, tuple(head["origin_xyz_mm"])),
        direction=cast(Direction, tuple(tuple(row) for row in head["direction"])),
        provenance=tuple(head["provenance"]),
    )


# --- the seal ---


def _seal(file: BinaryIO, entry: Path) -> None:
    now_ns = time.time_ns() // _SECOND_NS * _SECOND_NS + _digits(entry)
    with suppress(OSError):  # who may only read compares each time
        os.utime(file.fileno(), ns=(now_ns, now_ns))


def _is_sealed(file: BinaryIO, entry: Path) -> bool:
    sealed_s, digits = divmod(os.fstat(file.fileno()).st_mtime_ns, _SECOND_NS)
    return digits == _digits(entry) and 0 <= time.time() - sealed_s < BELIEVED_S


def _digits(entry: Path) -> int:
    """Of one entry and no other; what writes at the same nanosecond of a second by chance is one in a thousand million.

    Never 0: a disk without fractions of seconds would seem to keep it.
    """
    return 1 + int.from_bytes(hashlib.sha256(entry.name.encode()).digest()[:8], "little") % (_SECOND_NS - 1)
