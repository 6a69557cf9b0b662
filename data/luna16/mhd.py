"""MetaImage: a text header (.mhd) beside raw (.raw) or deflated (.zraw) voxels, as LUNA16 distributes its scans.

In and out: `CtVolume`. Voxels lie X fastest, so the array is (Z, Y, X) as it stands. `Offset` is the centre of the
first voxel (LPS, mm); `TransformMatrix` lists the patient directions of X, then Y, then Z: the columns of ITK's
direction matrix. ITK ignores `AnatomicalOrientation`, and so do we.

Source: MetaIO documentation (itk.org/Wiki/MetaIO/Documentation); LUNA16's files were written by ITK.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data.errors import BrokenGeometry, MissingHeader, UnreadableScan
from data.volume import CtVolume, Direction, Point, as_hu

Header = Mapping[str, str]

_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip

_SYNONYMS = {
    "Position": "Offset", "Origin": "Offset",
    "Orientation": "TransformMatrix", "Rotation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}  # fmt: skip

_LONGEST_HEADER = 1 << 16
"""Bytes. A header is a few hundred; a file without an ElementDataFile line is not read to its end to learn so."""


def read(path: str | Path) -> CtVolume:
    """Read one `.mhd` with its voxel file (or a `.mha`, which holds both).

    Raises:
        UnreadableScan: not a MetaImage, a voxel file that is missing or of another length, several files or channels.
        MissingHeader: no DimSize, ElementSpacing or ElementType.
        BrokenGeometry: spacing or directions that are no geometry.
        BadVoxels: NaN, infinite or beyond 16 bits.
    """
    path = Path(path)
    header, header_bytes = _read_header(path)
    return CtVolume(
        hu_ZYX=as_hu(_read_voxels(path, header, header_bytes), where=path.name),
        spacing_zyx_mm=_point(header, "ElementSpacing", path)[::-1],
        origin_xyz_mm=_point(header, "Offset", path, default="0 0 0"),
        direction=_direction(header, path),
    )


def write(path: str | Path, volume: CtVolume, *, compress: bool = False) -> None:
    """Write `path` (.mhd) and beside it `.raw`, or `.zraw` where `compress`. `read` gives back the same, exactly."""
    path = Path(path)
    voxels = np.ascontiguousarray(volume.hu_ZYX, dtype="<i2").tobytes()
    body = path.with_suffix(".zraw" if compress else ".raw")
    stored = zlib.compress(voxels, level=1) if compress else voxels
    body.write_bytes(stored)
    lines = _header_of(volume, body.name, compressed_bytes=len(stored) if compress else None)
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()), encoding="ascii")


def _header_of(volume: CtVolume, body: str, *, compressed_bytes: int | None) -> dict[str, str]:
    """Keys in the order ITK writes them; ElementDataFile must be the last."""
    size = {} if compressed_bytes is None else {"CompressedDataSize": str(compressed_bytes)}
    return {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(compressed_bytes is not None),
        **size,
        "TransformMatrix": _numbers(np.asarray(volume.direction).T.ravel()),
        "Offset": _numbers(volume.origin_xyz_mm),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _numbers(volume.spacing_zyx_mm[::-1]),
        "DimSize": _numbers(volume.hu_ZYX.shape[::-1]),
        "ElementType": "MET_SHORT",
        "ElementDataFile": body,
    }


def _numbers(values: Any) -> str:
    return " ".join(f"{v:.17g}" for v in values)


def _read_header(path: Path) -> tuple[Header, int]:
    """The header's lines, and how many bytes of the file they take."""
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_HEADER)
    except OSError as error:
        raise UnreadableScan(f"{path}: {error.strerror}; check the path and its permissions") from error
    header: dict[str, str] = {}
    used = 0
    for line in start.splitlines(keepends=True):
        used += len(line)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        header[_SYNONYMS.get(key.strip(), key.strip())] = value.strip()
        if key.strip() == "ElementDataFile":
            return header, used
    raise UnreadableScan(f"{path}: not a MetaImage header (no ElementDataFile line); expected an ITK .mhd or .mha file")


def _read_voxels(path: Path, header: Header, header_bytes: int) -> NDArray[Any]:
    dtype = _dtype(header, path)
    shape = tuple(int(n) for n in _point(header, "DimSize", path)[::-1])
    stored = _body(path, header, header_bytes)
    if header.get("CompressedData", "False") == "True":
        stored = _inflate(stored, path)
    expected = int(np.prod(shape)) * dtype.itemsize
    if header.get("HeaderSize", "0") == "-1":  # MetaIO: the voxels are the last bytes of the file
        stored = stored[-expected:]
    if len(stored) != expected:
        raise UnreadableScan(
            f"{path}: {len(stored)} bytes of voxels, DimSize {header['DimSize']} of {header['ElementType']} needs "
            f"{expected}; the file is truncated or belongs to another header, copy it again"
        )
    return np.frombuffer(stored, dtype=dtype).reshape(shape)


def _body(path: Path, header: Header, header_bytes: int) -> bytes:
    name = header["ElementDataFile"]
    if name.split(maxsplit=1)[0] == "LIST" or "%" in name:
        raise UnreadableScan(f"{path}: voxels in one file per slice are not supported; write one .raw with ITK")
    skip = header_bytes if name == "LOCAL" else max(int(header.get("HeaderSize", "0")), 0)
    body = path if name == "LOCAL" else path.parent / name
    try:
        with body.open("rb") as file:
            file.seek(skip)
            return file.read()
    except OSError as error:
        raise UnreadableScan(f"{path}: its voxel file {name!r}: {error.strerror}; copy it beside the header") from error


def _inflate(stored: bytes, path: Path) -> bytes:
    try:
        return zlib.decompress(stored)
    except zlib.error as error:
        raise UnreadableScan(f"{path}: compressed voxels cannot be inflated ({error}); copy the .zraw again") from error


def _dtype(header: Header, path: Path) -> np.dtype[Any]:
    name = _required(header, "ElementType", path)
    channels = header.get("ElementNumberOfChannels", "1")
    if name not in _DTYPES or channels != "1":
        raise UnreadableScan(f"{path}: ElementType {name!r} with {channels} channels; a CT scan has one number a voxel")
    big = header.get("BinaryDataByteOrderMSB", "False") == "True"
    return np.dtype((">" if big else "<") + _DTYPES[name])


def _direction(header: Header, path: Path) -> Direction:
    values = _floats(header.get("TransformMatrix", "1 0 0 0 1 0 0 0 1"), path)
    if len(values) != 9:
        raise BrokenGeometry(f"{path}: TransformMatrix has {len(values)} numbers; a volume has 9")
    columns = np.reshape(values, (3, 3)).T
    return cast(Direction, tuple(tuple(float(v) for v in row) for row in columns))


def _point(header: Header, key: str, path: Path, *, default: str | None = None) -> Point:
    values = _floats(header.get(key) or default or _required(header, key, path), path)
    if len(values) != 3:
        raise BrokenGeometry(f"{path}: {key} has {len(values)} numbers; a volume has 3")
    return cast(Point, tuple(values))


def _required(header: Header, key: str, path: Path) -> str:
    if key not in header:
        raise MissingHeader(f"{path}: the header has no {key}; write the scan again with ITK")
    return header[key]


def _floats(text: str, path: Path) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise UnreadableScan(f"{path}: {text!r} in the header is not a list of numbers") from error
