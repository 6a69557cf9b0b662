"""Named groups of tensors with JSON-able facts in one file: safetensors, replaced whole, checked on reading.

Tensors are named `group/tensor`; the facts and a checksum over everything travel in the file's metadata, so that a
state is one file and one rename, and a file that a dying disk has spoiled is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from app.files import replacing
from strategies.types import Tensors

Groups = dict[str, Tensors]


class Unreadable(ValueError):
    """The file is not whole, or not one of ours."""


def write_groups(path: Path, groups: Mapping[str, Tensors], facts: Mapping[str, Any]) -> None:
    """Replace `path` by these groups and facts.

    Raises:
        DiskFull: no room; the former file is kept.
    """
    tensors = {
        f"{group}/{name}": np.ascontiguousarray(tensor).reshape(np.shape(tensor))
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    text = json.dumps(facts, sort_keys=True)
    content = save(tensors, metadata={"facts": text, "checksum": _checksum(tensors, text)})
    with replacing(path) as file:
        file.write(content)


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
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
