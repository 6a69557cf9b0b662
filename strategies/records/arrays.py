"""Tensors as Flower's ArrayRecords: numpy's `.npy` bytes, as Flower writes them.

They are read without copying (read-only views of the message's own buffers) and written with one copy.
"""

import io
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.lib import format as npy

from strategies.errors import RecordError
from strategies.records.packing import NUMPY, is_packed, unpacked
from strategies.types import Tensor, Tensors


def to_record(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Tensors as a record; one copy of the values."""
    return ArrayRecord({name: _to_array(tensor) for name, tensor in tensors.items()})


def from_record(record: ArrayRecord) -> Tensors:
    """A record's tensors as read-only views of its buffers. Raises RecordError where bytes and header disagree."""
    if is_packed(record):
        return {name: _from_npy(name, data) for name, data in unpacked(record).items()}
    return {name: _from_array(name, array) for name, array in record.items()}


def names_in(record: ArrayRecord) -> list[str]:
    """The names of a record's tensors. Raises RecordError where it is packed and cannot be read."""
    return list(unpacked(record) if is_packed(record) else record)


def part_of(record: ArrayRecord, names: Iterable[str]) -> ArrayRecord:
    """Some tensors of a record, sharing its bytes."""
    return ArrayRecord({name: record[name] for name in names})


def record_nbytes(record: ArrayRecord | None) -> int:
    """Bytes of a record's tensors on the wire."""
    return 0 if record is None else sum(len(array.data) for array in record.values())


def arrays_of(content: RecordDict) -> dict[str, ArrayRecord]:
    """The array records of a message's content.

    As a plain dict: the views that Flower's `content.array_records` makes refer to themselves, and would keep every
    model that was read in memory until the garbage collector finds them.
    """
    return {name: record for name, record in content.items() if isinstance(record, ArrayRecord)}


def _to_array(tensor: Tensor) -> Array:
    tensor = np.asarray(tensor, order="C")
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(tensor))
    data = b"".join((header.getvalue(), tensor.reshape(-1).view(np.uint8).data))
    return Array(str(tensor.dtype), tuple(tensor.shape), NUMPY, data)


def _from_array(name: str, array: Array) -> Tensor:
    if array.stype != NUMPY:
        raise RecordError(f"tensor {name!r} is serialised as {array.stype!r}, expected {NUMPY!r}")
    return _from_npy(name, array.data)


def _from_npy(name: str, data: bytes | memoryview) -> Tensor:
    try:
        size = 10 + int.from_bytes(data[8:10], "little")
        shape, is_fortran, dtype = _header(bytes(data[:size]))
        flat = np.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=size)
        return cast(Tensor, flat.reshape(shape, order="F" if is_fortran else "C"))
    except (ValueError, EOFError) as error:
        raise RecordError(f"tensor {name!r} cannot be read from its bytes: {error}") from error


@lru_cache(maxsize=1024)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype from the header of version 1.0, as Flower and we write it for plain numbers.

    Remembered, because the same few headers come with every reply and parsing one costs as much as a small tensor.
    """
    stream = io.BytesIO(data)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("not in .npy format 1.0")
    return npy.read_array_header_1_0(stream)
