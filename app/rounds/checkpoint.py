"""The server's state on disk: one safetensors file a leg, replaced whole after every round.

Tensors are named `group/tensor` (model, control, server_opt.velocity …); the round and the JSON-able facts travel
in the file's metadata, so that a checkpoint is one file and one rename. The previous one is kept beside it: a file
that a dying disk has spoiled is noticed by its checksum and the older one is used, and said so.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from logging import getLogger
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from app.files import replacing
from strategies.types import ServerState, Tensor, Tensors

log = getLogger(__name__)

SCHEMA = 1


class BrokenCheckpoint(RuntimeError):
    """Neither the checkpoint nor the one before it can be read."""


def save_state(folder: Path, state: ServerState) -> None:
    """Write `state` as FOLDER/state.safetensors; the former one becomes previous.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = folder / "state.safetensors"
    tensors = dict(_flatten(state))
    facts = {"schema": SCHEMA, "round": state.round, "facts": state.facts, "checksum": _checksum(tensors)}
    content = save(tensors, metadata={"fedvox": json.dumps(facts, sort_keys=True)})
    if newest.exists():
        _keep(newest, folder / "previous.safetensors")
    with replacing(newest) as file:
        file.write(content)


def load_state(folder: Path) -> ServerState | None:
    """The newest readable state of a leg; None where the leg has not finished a round.

    Raises:
        BrokenCheckpoint: files are there and none of them can be read.
    """
    files = [path for name in ("state", "previous") if (path := folder / f"{name}.safetensors").exists()]
    for path in files:
        try:
            return _read(path)
        except (SafetensorError, ValueError, KeyError, OSError) as error:
            log.warning("%s cannot be used (%s); trying the one before it", path, error)
    if files:
        raise BrokenCheckpoint(f"no readable checkpoint in {folder}; start the run anew in another folder")
    return None


def _keep(newest: Path, previous: Path) -> None:
    """A second name for the newest state, so that it stays until the new one is whole."""
    link = previous.with_suffix(".link")
    link.unlink(missing_ok=True)
    link.hardlink_to(newest)
    link.replace(previous)


def _read(path: Path) -> ServerState:
    with safe_open(path, framework="np") as file:
        facts = json.loads(file.metadata()["fedvox"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    if _checksum(tensors) != facts["checksum"]:
        raise ValueError("its checksum does not match its content")
    groups = _unflatten(tensors)
    moments = {name.removeprefix("server_opt."): group for name, group in groups.items() if name.startswith("server_opt.")}
    return ServerState(
        round=facts["round"],
        model=groups.get("model", {}),
        server_opt=moments,
        control=groups.get("control", {}),
        facts=facts["facts"],
    )


def _flatten(state: ServerState) -> Iterator[tuple[str, Tensor]]:
    groups: Mapping[str, Tensors] = {
        "model": state.model,
        "control": state.control,
        **{f"server_opt.{name}": group for name, group in state.server_opt.items()},
    }
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            yield f"{group}/{name}", np.ascontiguousarray(tensor).reshape(np.shape(tensor))


def _unflatten(tensors: Tensors) -> dict[str, Tensors]:
    groups: dict[str, Tensors] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    return groups


def _checksum(tensors: Tensors) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(memoryview(np.ascontiguousarray(tensors[name])).cast("B") if tensors[name].size else b"")
    return digest.hexdigest()
