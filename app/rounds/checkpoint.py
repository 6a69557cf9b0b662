"""The server's state on disk, replaced whole after every round; the one before is kept beside it.

A file that a dying disk has spoiled is noticed, the older one is used, and that is said.
"""

from logging import getLogger
from pathlib import Path

from app.tensor_files import Unreadable, read_groups, write_groups
from strategies.types import ServerState

log = getLogger(__name__)

SCHEMA = 1
OPTIMISER = "server_opt."


class BrokenCheckpoint(RuntimeError):
    """Neither the checkpoint nor the one before it can be read."""


def save_state(folder: Path, state: ServerState) -> None:
    """Write `state` as FOLDER/state.safetensors; the former one stays as previous.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = folder / "state.safetensors"
    if newest.exists():
        _keep(newest, folder / "previous.safetensors")
    write_state(newest, state)


def write_state(path: Path, state: ServerState) -> None:
    """Replace one file by `state`."""
    moments = {f"{OPTIMISER}{name}": tensors for name, tensors in state.server_opt.items()}
    groups = {"model": state.model, "control": state.control, **moments}
    # The keys, too: an optimiser's empty group has no tensor to be found by.
    write_groups(
        path,
        groups,
        {"schema": SCHEMA, "round": state.round, "facts": state.facts, "moments": sorted(state.server_opt)},
    )


def load_state(folder: Path) -> ServerState | None:
    """The newest readable state of a leg; None where the leg has not finished a round.

    Raises:
        BrokenCheckpoint: files are there and none of them can be read.
    """
    files = [path for name in ("state", "previous") if (path := folder / f"{name}.safetensors").exists()]
    for path in files:
        try:
            state = read_state(path)
        except Unreadable as error:
            log.warning("%s; trying the checkpoint before it", error)
        else:
            _put_aside(files[: files.index(path)])
            return state
    if files:
        raise BrokenCheckpoint(f"no readable checkpoint in {folder}; start the run anew in another folder")
    return None


def _put_aside(unreadable: list[Path]) -> None:
    """Under another name, lest the next save keep them as the state before, in place of the one that was readable."""
    for path in unreadable:
        path.replace(path.with_suffix(".unreadable"))


def _keep(newest: Path, previous: Path) -> None:
    """A second name for the newest state, so that it stays until the new one is whole."""
    link = previous.with_suffix(".link")
    link.unlink(missing_ok=True)
    link.hardlink_to(newest)
    link.replace(previous)


def read_state(path: Path) -> ServerState:
    """The state in one file. Raises Unreadable."""
    groups, facts = read_groups(path)
    return ServerState(
        round=facts["round"],
        model=groups.get("model", {}),
        server_opt={name: groups.get(f"{OPTIMISER}{name}", {}) for name in facts["moments"]},
        control=groups.get("control", {}),
        facts=facts["facts"],
    )
