"""`fedvox site check`: is this hospital ready to take part? A line for everything that has kept one from it before."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from app.config import ConfigError, build, compose
from app.deploy import reach
from app.deploy.approval import approvals
from app.deploy.doorbell import is_let_in
from app.deploy.errors import DeployError
from app.deploy.hospital import Hospital, Kit
from app.deploy.keys import is_private, read_key
from app.deploy.voices import heard
from app.fingerprint import code_hash
from app.site.budget import Budget, BudgetError
from app.site.site_file import lifetime_limits
from data.check.finding import Finding, Level, of_error
from data.errors import DataError

if TYPE_CHECKING:
    from app.site.site_file import SiteFile

FREE_GB, SCARCE_GB = 1.0, 10.0
"""Below the one nothing is begun; below the other somebody should know."""

FINE = "nothing to do"
Look = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class _Check:
    hospital: Hospital
    site: "SiteFile"
    pixels: bool

    def release(self) -> Iterator[Finding]:
        what = f"fedvox {metadata.version('fedvox')}, code {code_hash()}, flwr {metadata.version('flwr')}"
        yield Finding(Level.NOTE, "release", what, FINE)
        found = approvals(self.hospital)
        fitting = [approval.sha256[:16] for approval in found if approval.code == code_hash()]
        listed = self.site.policy.get("approved_code") or ()
        if fitting or listed:
            yield Finding(Level.NOTE, "approved", f"{len(fitting) + len(listed)} bundles of this code", FINE)
        else:
            what = (
                f"{len(found)} bundles are approved, none of the installed code" if found else "no bundle is approved"
            )
            yield Finding(Level.REFUSED, "approved", what, f"fedvox site approve {self.hospital.folder} BUNDLE")

    def key(self) -> Iterator[Finding]:
        read_key(self.hospital.key)
        if is_private(self.hospital.key):
            yield Finding(Level.NOTE, "key", "the hospital's key is its owner's alone", FINE)
        else:
            path = self.hospital.key
            yield Finding(
                Level.REFUSED, "key", f"others may read {path}", f"chmod 600 {path}; make a new one if they did"
            )

    def device(self) -> Iterator[Finding]:
        from app.training.device import DeviceError, choose, describe

        try:
            device = choose(self.site.device)
        except DeviceError as error:
            yield Finding(Level.REFUSED, "device", str(error), "correct `device` in site.yaml")
            return
        slow = device.type == "cpu" and self.site.device == "auto"
        remedy = "look at the driver, if this machine has a GPU" if slow else FINE
        yield Finding(Level.NOTE, "device", describe(device), remedy)

    def disk(self) -> Iterator[Finding]:
        for what, folder in (
            ("state", self.site.state_dir),
            ("cache", self.site.cache_dir),
            ("logs", self.hospital.logs),
        ):
            there = next(path for path in (folder, *folder.parents) if path.exists())
            free = shutil.disk_usage(there).free / 1e9
            level = Level.REFUSED if free < FREE_GB else Level.WARNING if free < SCARCE_GB else Level.NOTE
            remedy = FINE if level is Level.NOTE else f"free some space under {there}"
            yield Finding(level, "disk", f"{free:.1f} GB free for {what}", remedy)

    def policy(self) -> Iterator[Finding]:
        """What may be asked of the patients: the cap alone lets runs in that add no noise, and counts none of them."""
        units = (self.site.policy.get("accepted") or {}).get("unit")
        if units is None or "none" in units:
            what = "runs without privacy are accepted too, and no cap counts those"
            yield Finding(Level.NOTE, "policy", what, "policy.accepted: {unit: [patient]} takes private runs alone")
        else:
            yield Finding(Level.NOTE, "policy", f"accepted units: {units}", FINE)

    def ledger(self) -> Iterator[Finding]:
        budget = Budget(self.site.state_dir, self.site.ledger_key, self.site.name)
        try:
            faults, ledger = budget.verify(), budget.read()
        except BudgetError as error:
            yield Finding(Level.REFUSED, error.code, str(error), "fedvox budget verify, or restore the backup")
            return
        for fault in faults:
            yield Finding(Level.REFUSED, f"budget-{fault.code}", fault.what, "restore ledger and key from the backup")
        if ledger is None:
            yield Finding(Level.NOTE, "ledger", "nothing was ever spent", FINE)
        elif not faults:
            cap, delta = lifetime_limits(self.site.policy, compose()["budget"])
            yield Finding(Level.NOTE, "ledger", f"intact; ε {ledger.spent(delta):.3g} of {cap:.3g} spent", FINE)

    def coordinator(self) -> Iterator[Finding]:
        kit = self.hospital.kit()
        seen = list(reach.findings(self.hospital, kit))
        yield from seen
        if not any(finding.level is Level.REFUSED for finding in seen):
            yield self._let_in(kit)

    def data(self) -> Iterator[Finding]:
        from data.check import Rules, check_source

        config = compose()
        limits, sampling = (build(config["comparison"][part]) for part in ("limits", "sampling"))
        rules = Rules(build(config["preprocess"]), limits, sampling)
        checked = check_source(build(self.site.source), rules, headers_only=not self.pixels)
        yield from (finding for finding in checked.findings if finding.level is not Level.NOTE)
        summary = checked.summary
        what = f"{summary.scans} scans of {summary.patients} patients, {summary.labelled_scans} labelled"
        level = Level.REFUSED if checked.is_refused else Level.NOTE
        yield Finding(level, "data", what, "see the lines above" if checked.is_refused else FINE)

    def _let_in(self, kit: Kit) -> Finding:
        if _is_started(self.hospital):
            return Finding(
                Level.NOTE, "enrolled", "the hospital is started; its console says whether it is let in", FINE
            )
        try:
            is_let_in(self.hospital, kit)
        except DeployError as error:
            return Finding(Level.REFUSED, "not-enrolled", heard(str(error)) or str(error), "ask the coordinator")
        return Finding(Level.NOTE, "enrolled", "the coordinator lets this key in", FINE)


def look(hospital: Hospital, *, data: bool = True, pixels: bool = False) -> list[Finding]:
    """Every finding, in the order in which a hospital would mend them."""
    try:
        site = hospital.site()
    except ConfigError as error:
        return [Finding(Level.REFUSED, "site-file", str(error), "correct that line")]
    check = _Check(hospital, site, pixels)
    looks: list[Look] = [
        check.release,
        check.key,
        check.policy,
        check.device,
        check.disk,
        check.ledger,
        check.coordinator,
    ]
    return [finding for one in (*looks, *([check.data] if data else [])) for finding in _safely(one)]


def _safely(one: Look) -> Iterator[Finding]:
    """A check that cannot be made is a finding as well."""
    try:
        yield from one()
    except DataError as error:
        yield of_error(error, Level.REFUSED)
    except (DeployError, ConfigError, OSError) as error:
        yield Finding(Level.REFUSED, one.__name__, str(error), "mend that first")


def _is_started(hospital: Hospital) -> bool:
    path = hospital.folder / "flower" / "lock"
    if not path.exists():  # not made here: whoever checks may be another account than the one that starts
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
