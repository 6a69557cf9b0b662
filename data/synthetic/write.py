"""Write a cohort of synthetic hospitals, each as it would stand in reality.

    DIR/NAME/site.yaml       the hospital's own file: source, cache, state, device, policy
    DIR/NAME/data/           its scans (see `layouts`)
    DIR/NAME/state/          what it keeps between runs; empty at first
    DIR/NAME/cohort.json     the settings it was written with

A patient depends on seed, hospital and number alone: not on workers, on other hospitals or on how many patients there
are. A hospital is written aside and renamed, so that it is there whole or not at all; one that is there with the same
settings is kept, with its cache and state.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any

import yaml

from data.errors import BadSetting
from data.synthetic.folder import is_there, locked, mark, refuse_foreign, remove_partial, room
from data.synthetic.layouts import LAYOUTS, Identity, Written
from data.synthetic.order import Order
from data.synthetic.phantom import draw_patient
from data.synthetic.pool import Map, pool
from data.synthetic.scanners import SCANNERS
from data.synthetic.seeds import derive

POLICY: Mapping[str, Any] = {
    "epsilon_cap": 8.0,
    "delta": 1e-5,
    "min_patients": 5,
    "accepted": {"unit": ["none", "patient", "sample", "site"]},  # phantoms: everything may be tried on them
    "approved_code": [],
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


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
        BadSetting: a setting that is unknown or out of range.
        FolderTaken: the folder holds something else, or the same hospitals with other settings.
        NoRoom: the disk is full.
    """
    folder = Path(folder)
    orders = {name: _order(name, facts) for name, facts in hospitals.items()}
    refuse_foreign(folder)
    with room(folder), locked(folder):
        remove_partial(folder)
        todo = [
            _Hospital(folder, name, o, seed)
            for name, o in orders.items()
            if not is_there(folder / name, o.fingerprint(name, seed))
        ]
        if todo:
            _write_all(todo, workers, policy or POLICY, progress)


@dataclass(frozen=True)
class _Hospital:
    folder: Path
    name: str
    order: Order
    seed: int

    @property
    def aside(self) -> Path:
        return self.folder / f".{self.name}.partial"


def _write_all(
    todo: Sequence[_Hospital],
    workers: int | None,
    policy: Mapping[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    total = sum(hospital.order.patients for hospital in todo)
    counter = count(1)
    try:
        with pool(workers, tasks=total) as each:
            for hospital in todo:
                _write_hospital(hospital, policy, each, lambda: progress and progress(next(counter), total))
    finally:
        remove_partial(todo[0].folder)  # only now: until the pool is gone, its processes go on writing


def _write_hospital(
    hospital: _Hospital, policy: Mapping[str, Any], each: Map, patient_done: Callable[[], object]
) -> None:
    """Write one hospital aside, then give it its name."""
    aside, order = hospital.aside, hospital.order
    (aside / "data").mkdir(parents=True)
    (aside / "state").mkdir()
    scans = []
    for scan in each(_write_patient, repeat(hospital), range(order.patients)):
        scans.append(scan)
        patient_done()
    LAYOUTS[order.format].write_tables(aside / "data", scans)
    _write_site_file(aside / "site.yaml", hospital, policy)
    mark(aside, order.fingerprint(hospital.name, hospital.seed), {"seed": hospital.seed, **asdict(order)})
    aside.rename(hospital.folder / hospital.name)


def _write_patient(hospital: _Hospital, number: int) -> Written:
    """Draw and write one patient; runs in any process."""
    name, order, seed = hospital.name, hospital.order, hospital.seed
    rng = derive(seed, name, number)
    scanner = SCANNERS[order.scanner]
    date = f"{rng.integers(2012, 2024)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    patient = draw_patient(scanner, order.frame, rng)
    identity = Identity(f"{name}-{number + 1:05d}", number, date, order.key(name, seed, number))
    return LAYOUTS[order.format].write_patient(hospital.aside / "data", patient, scanner, identity)


def _write_site_file(path: Path, hospital: _Hospital, policy: Mapping[str, Any]) -> None:
    site = {
        "name": hospital.name,
        "source": dict(LAYOUTS[hospital.order.format].source),
        "cache_dir": "cache",
        "state_dir": "state",
        "device": "auto",
        "policy": dict(policy),
    }
    path.write_text(yaml.safe_dump(site, sort_keys=False), encoding="utf-8")


def _order(name: str, facts: Mapping[str, Any]) -> Order:
    if not _NAME.fullmatch(name):
        raise BadSetting(f"hospital {name!r}: a name is up to 40 letters, digits, - and _, and becomes a folder")
    try:
        return Order.of(facts)
    except (BadSetting, TypeError) as error:
        raise BadSetting(f"hospital {name!r}: {error}") from error
