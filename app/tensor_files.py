"""Named groups of tensors with JSON-able facts in one file: safetensors, replaced whole, checked on reading.

Tensors are named `group/tensor`; the facts and a checksum over everything travel in the file's metadata, so that a
state is one file and one rename, and a file that a dying disk has spoiled is noticed.

Written from where the tensors lie, without a copy of them all in between; a large file's checksum is computed while
the disk works, and put into its place afterwards. So a checkpoint costs little more than the disk needs for it.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from app.files import replacing
from strategies.types import Tensor, Tensors

Groups = dict[str, Tensors]

DTYPES = {
    np.dtype(kind): name
    for kind, name in {
        "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
        "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "?": "BOOL",
    }.items()
}  # fmt: skip
"""safetensors' names."""

ALIGNMENT = 8
"""Bytes: the header is padded to it, and wider types come first."""

UNKNOWN = "0" * 64
"""A checksum's place until it is known."""

LARGE = 1 << 22
"""Bytes from which on a second sync is cheaper than to wait for the checksum."""


class Unreadable(ValueError):
    """The file is not whole, or not one of ours."""


def write_groups(path: Path, groups: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    """Replace `path` by these groups and facts.

    Raises:
        DiskFull: no room; the former file is kept.
    """
    tensors = _flat(groups)
    text = json.dumps(facts, sort_keys=True)
    with replacing(path) as file, ThreadPoolExecutor(1) as aside:
        if sum(tensor.nbytes for tensor in tensors.values()) < LARGE:
            _write(file, tensors, text, _checksum(tensors, text))
            return
        checksum = aside.submit(_checksum, tensors, text)
        place = _write(file, tensors, text, UNKNOWN)
        file.flush()
        os.fsync(file.fileno())
        file.seek(place)
        file.write(checksum.result().encode())


def _flat(groups: Mapping[str, Tensors]) -> Tensors:
    """`group/tensor` → tensor, in the order in which they are written."""
    tensors = {
        f"{group}/{name}": np.ascontiguousarray(tensor).reshape(np.shape(tensor))
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    return dict(sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])))


def _write(file: BinaryIO, tensors: Tensors, text: str, checksum: str) -> int:
    """A whole safetensors file. Returns where in it the checksum stands."""
    header = _header(tensors, {"checksum": checksum, "facts": text})
    file.write(len(header).to_bytes(8, "little"))
    file.write(header)
    file.writelines(_bytes(tensor) for tensor in tensors.values())
    return 8 + header.index(checksum.encode())


def _header(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    described: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        described[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(described, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % ALIGNMENT)


def _bytes(tensor: Tensor) -> memoryview:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def read_groups(path: Path) -> tuple[Groups, dict[str, Any]]:
    """Groups and facts of a file.

    Raises:
        Unreadable: cut short, changed, or not one of ours.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        text, checksum = metadata["facts"], metadata["checksum"]
        facts = json.loads(text)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    if _checksum(tensors, text) != checksum:
        raise Unreadable(f"{path} was changed after it was written: its checksum does not match")
    return _grouped(tensors), facts


def _grouped(tensors: Tensors) -> Groups:
    groups: Groups = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups


def _checksum(tensors: Tensors, text: str) -> str:
    # Processors have had instructions for SHA-256 for years: it keeps up with the disk, others do not.
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()
