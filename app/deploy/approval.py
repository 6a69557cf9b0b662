"""Which bundles a hospital answers: approved one by one, by the hash of their bytes, after a look at what changed.

A bundle that is approved is kept beside its record, so that the next one can be shown as a difference. Its code is
never run from the bundle: the hospital's own installed fedvox answers, if its code is the same.
"""

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.deploy.bundle import Bundle, bundle_file
from app.deploy.certificates import write_private
from app.deploy.errors import DeployError
from app.deploy.hospital import Hospital


@dataclass(frozen=True)
class Approval:
    """A bundle that the hospital said yes to."""

    sha256: str
    code: str
    """Hash of its code; what is installed must have the same."""
    approved: str
    """When, UTC."""
    configurations: tuple[str, ...] = ()
    """Hashes of the only configurations it is answered with; empty: whatever the policy accepts."""


def approve(hospital: Hospital, content: bytes, bundle: Bundle, configurations: Sequence[str] = ()) -> Approval:
    """Keep a bundle and the hospital's yes to it, from now on."""
    now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="microseconds")
    made = Approval(bundle.sha256, bundle.code, now, tuple(configurations))
    hospital.record("bundle-approved", bundle=made.sha256, code=made.code, configurations=list(made.configurations))
    write_private(hospital.approved / f"{made.sha256}.fab", content)
    write_private(_record(hospital, made.sha256), (json.dumps(asdict(made), indent=2) + "\n").encode())
    return made


def withdraw(hospital: Hospital, sha256: str) -> Approval:
    """Take a yes back. `sha256` may be shortened. Raises DeployError where it names none, or several."""
    found = [approval for approval in approvals(hospital) if approval.sha256.startswith(sha256)]
    if len(found) != 1:
        known = ", ".join(approval.sha256[:16] for approval in approvals(hospital)) or "none"
        raise DeployError(f"{sha256!r} names {len(found)} approved bundles; approved are: {known}")
    hospital.record("approval-withdrawn", bundle=found[0].sha256)
    _record(hospital, found[0].sha256).unlink()
    return found[0]


def approvals(hospital: Hospital) -> list[Approval]:
    """All of them, the oldest first. Raises DeployError where a record cannot be read."""
    return sorted(_records(hospital), key=lambda approval: approval.approved)


def approval_of(hospital: Hospital, sha256: str) -> Approval | None:
    """The hospital's yes to these bytes: by `fedvox site approve`, or by `policy.approved_code` in its file."""
    path = _record(hospital, sha256)
    if path.exists():
        return _read(path)
    listed = sha256 in hospital.site().policy.get("approved_code", ())
    return Approval(sha256, "", "by site.yaml") if listed else None


def last_bundle(hospital: Hospital) -> Bundle | None:
    """The bundle that was approved last, where its bytes are still kept."""
    for approval in reversed(approvals(hospital)):
        path = hospital.approved / f"{approval.sha256}.fab"
        if path.exists():
            return bundle_file(path)[0]
    return None


def _records(hospital: Hospital) -> Iterator[Approval]:
    for path in hospital.approved.glob("*.json"):
        yield _read(path)


def _read(path: Path) -> Approval:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        approval = Approval(**{**told, "configurations": tuple(told["configurations"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeployError(f"{path} is no record of an approval ({error}); approve the bundle again") from error
    if approval.sha256 != path.stem:
        raise DeployError(f"{path} speaks of another bundle than its name says; approve that bundle again")
    return approval


def _record(hospital: Hospital, sha256: str) -> Path:
    return hospital.approved / f"{sha256}.json"
