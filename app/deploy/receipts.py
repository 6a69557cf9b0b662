"""What came of a run's rounds, from whom, in the coordinator's audit log: read from the run's journal as it grows.

Beside each hospital that was received stands how long its ledger was and the mac of its last line. Whoever restores a
hospital's folder, its ledger's anchor included, has no copy of that (`app.privacy.rollback`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.deploy import audit_log
from app.deploy.coordinator import Coordinator
from app.rounds.folder import RunFolder
from app.rounds.summary import read_summary

EVENT = "round"


@dataclass
class Receipts:
    """Remembers what the log has, so that each line of a journal stands there once, also after a restart."""

    coordinator: Coordinator
    _logged: dict[str, set[str]] = field(default_factory=dict)
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, run: str, folder: str) -> None:
        """Write down the rounds that are new. Raises OSError; what was not written down is new the next time."""
        journal = RunFolder(Path(folder)).journal
        if not folder or not journal.exists() or self._seen.get(folder) == (now := _stamp(journal)):
            return
        logged = self._logged.setdefault(folder, set(self._before(folder)))
        for line in RunFolder(Path(folder)).lines():
            if (mark := _mark(line)) not in logged:
                self.coordinator.record(EVENT, run=run, folder=folder, journal=mark, **round_facts(line))
                logged.add(mark)
        self._seen[folder] = now

    def _before(self, folder: str) -> list[str]:
        events = audit_log.read(self.coordinator.folder / "audit.jsonl")
        return [event["journal"] for event in events if event["event"] == EVENT and event["folder"] == folder]


def round_facts(line: Mapping[str, Any]) -> dict[str, Any]:
    """Of a journal line: who was asked, what was received from whom, who refused or was refused, with which code."""
    received = {
        name: {"bytes": line["bytes_up"].get(name, 0), "ledger": report.get("ledger", "")}
        for name, report in line["reports"].items()
    }
    refused = [{key: refusal[key] for key in ("hospital", "round", "code")} for refusal in line["refused"]]
    return {
        "leg": line["leg"],
        "round": line["round"],
        "asked": list(line["asked"]),
        "received": received,
        "refused": refused,
    }


def outcome_facts(folder: str) -> dict[str, Any]:
    """Of a run that is over: who scored its last model, and each hospital's ledger then; nothing where none knows."""
    summary = read_summary(RunFolder(Path(folder))) if folder else None
    rows = summary["hospitals"] if summary else {}
    paid = {name: row["privacy"] for name, row in rows.items() if row["privacy"]}
    return {
        "scored": [name for name, row in rows.items() if row["patients"] is not None],
        "ledgers": {name: cost["ledger"] for name, cost in paid.items() if cost.get("ledger")},
        "refused": {name: row["refused"] for name, row in rows.items() if row["refused"]},
    }


def _mark(line: Mapping[str, Any]) -> str:
    """Of one journal line; a round that was run once more after a resume has a line, and a mark, of its own."""
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size
