"""Write a cohort of synthetic hospitals, each as it would stand in reality.

    DIR/NAME/site.yaml       the hospital's own file: source, cache, state, device, policy
    DIR/NAME/data/           its scans (see `layouts`)
    DIR/NAME/state/          what it keeps between runs; empty at first
    DIR/NAME/cohort.json     the settings it was written with

A patient depends on seed, hospital and number alone: not on workers, on other hospitals or on how many patients there
are. A hospital is written aside and renamed, so that it is there whole or not at all; one that is there with the same
settings is kept, with its cache and state.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from data.errors import DataError
from data.synthetic.layouts import LAYOUTS, Identity, Written
from data.synthetic.phantom import Frame, draw_patient
from data.synthetic.pool import pool
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive

VERSION = 1
"""Of what is drawn and how it is laid out. Raised when either changes: an older cohort must not pass for a new one."""

MARKER = "cohort.json"
POLICY: Mapping[str, Any] = {"epsilon_cap": 8.0, "delta": 1e-5, "min_patients": 5, "accepted": {}, "approved_code": []}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class FolderTaken(DataError):
    """The folder holds something else; nothing in it is touched."""

    code = "folder-taken"


class NoRoom(DataError):
    """The disk is full; what was begun is removed."""

    code = "no-room"


@dataclass(frozen=True)
class Order:
    """One hospital to be written."""

    patients: int
    scanner: str = "GE"
    """See `scanners.SCANNERS`."""
    format: str = "dicom"
    """See `layouts.LAYOUTS`."""
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise ValueError(f"{self.patients} patients; a hospital has at least one")
        for what, got, known in (("scanner", self.scanner, SCANNERS), ("format", self.format, LAYOUTS)):
            if got not in known:
                raise ValueError(f"unknown {what} {got!r}; known are {', '.join(known)}")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Order":
        """From plain settings: this class's fields, and those of `Frame`, in one mapping.

        Raises:
            ValueError: a field that neither has, or a value out of range.
        """
        own = {"patients", "scanner", "format"}
        if unknown := set(facts) - own - set(Frame.__dataclass_fields__):
            known = (*sorted(own), *Frame.__dataclass_fields__)
            raise ValueError(f"unknown setting {', '.join(sorted(unknown))}; known are {', '.join(known)}")
        frame = Frame(**{name: value for name, value in facts.items() if name not in own})
        return cls(frame=frame, **{name: value for name, value in facts.items() if name in own})


def write_cohort(
    folder: str | Path,
    *,
    hospitals: Mapping[str, Mapping[str, Any]],
    seed: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    policy: Mapping[str, Any] | None = None,
) -> None:
    """Write the hospitals that are not there yet.

    Args:
        folder: made if need be.
        hospitals: by name: `patients`, and if wished `scanner`, `format` ("dicom" or "luna16"), `matrix`,
            `field_of_view_mm`, `length_mm`, `candidates`.
        seed: the only source of chance.
        workers: processes; None: as many as the machine lets us use.
        progress: called with patients done and patients to be written.
        policy: of every site.yaml; None: `POLICY`.

    Raises:
        ValueError: settings out of range.
        FolderTaken: the folder holds something else, or the same hospitals with other settings.
        NoRoom: the disk is full.
    """
    folder = Path(folder)
    orders = {name: _order(name, facts) for name, facts in hospitals.items()}
    with _locked(folder):
        todo = {name: order for name, order in orders.items() if not _is_there(folder / name, name, order, seed)}
        _refuse_foreign(folder)
        total = sum(order.patients for order in todo.values())
        if not total:
            return
        report = progress or (lambda done, total: None)
        with pool(workers, tasks=total) as executor:
            done = 0
            for name, order in todo.items():
                for _ in _write_hospital(folder, name, order, seed, policy or POLICY, executor):
                    done += 1
                    report(done, total)


def fingerprint(name: str, order: Order, seed: int) -> str:
    """Of everything that decides a hospital's scans."""
    settings = {"version": VERSION, "seed": seed, "name": name, **asdict(order)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _order(name: str, facts: Mapping[str, Any]) -> Order:
    if not _NAME.fullmatch(name):
        raise ValueError(f"hospital {name!r}: a name is up to 40 letters, digits, - and _, and becomes a folder")
    try:
        return Order.of(facts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"hospital {name!r}: {error}") from error


def _write_hospital(
    folder: Path, name: str, order: Order, seed: int, policy: Mapping[str, Any], executor: Executor
) -> Iterator[None]:
    """Write one hospital aside, then give it its name. Yields after each patient."""
    aside = folder / f".{name}.partial"
    shutil.rmtree(aside, ignore_errors=True)  # left behind by a process that was killed
    try:
        with _room(folder):
            (aside / "data").mkdir(parents=True)
            (aside / "state").mkdir()
            tasks = [_Task(aside / "data", name, order, seed, number) for number in range(order.patients)]
            scans = []
            for written in executor.map(_write_patient, tasks, chunksize=2):
                scans.append(written)
                yield
            LAYOUTS[order.format].write_tables(aside / "data", scans)
            _write_site_file(aside / "site.yaml", name, order, policy)
            marker = {"fingerprint": fingerprint(name, order, seed), "seed": seed, **asdict(order)}
            (aside / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
            aside.rename(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class _Task:
    data: Path
    hospital: str
    order: Order
    seed: int
    number: int


def _write_patient(task: _Task) -> Written:
    """Draw and write one patient; runs in any process."""
    rng = derive(task.seed, task.hospital, task.number)
    scanner = SCANNERS[task.order.scanner]
    date = f"{rng.integers(2012, 2024)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    patient = draw_patient(scanner, task.order.frame, rng)
    key = f"{fingerprint(task.hospital, replace(task.order, patients=1), task.seed)}/{task.number}"
    identity = Identity(f"{task.hospital}-{task.number + 1:05d}", task.number, date, key)
    return LAYOUTS[task.order.format].write_patient(task.data, patient, scanner, identity)


def _write_site_file(path: Path, name: str, order: Order, policy: Mapping[str, Any]) -> None:
    site = {
        "name": name,
        "source": dict(LAYOUTS[order.format].source),
        "cache_dir": "cache",
        "state_dir": "state",
        "device": "auto",
        "policy": dict(policy),
    }
    path.write_text(yaml.safe_dump(site, sort_keys=False), encoding="utf-8")


def _is_there(place: Path, name: str, order: Order, seed: int) -> bool:
    """Whether the hospital was written before, with these settings."""
    if not place.exists():
        return False
    marker = _marker(place)
    if marker is None:
        raise FolderTaken(f"{place} exists and was not written by fedvox; name another folder or move it away")
    if marker.get("fingerprint") != fingerprint(name, order, seed):
        raise FolderTaken(
            f"{place} was written with other settings (see its {MARKER}); name another folder or remove it"
        )
    return True


def _refuse_foreign(folder: Path) -> None:
    """Only hospitals of ours may stand in the folder."""
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith(".") and _marker(entry) is None:
            raise FolderTaken(f"{folder} holds {entry.name!r}, which is no synthetic hospital; name an empty folder")


def _marker(place: Path) -> dict[str, Any] | None:
    try:
        marker = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer a folder; a second one waits and then finds the hospitals there."""
    if folder.exists() and not folder.is_dir():
        raise FolderTaken(f"{folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(f"no room in {folder} for the cohort; free some space or ask for fewer patients") from error
        raise
