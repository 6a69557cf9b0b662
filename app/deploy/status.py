"""How a federation is: who is there, how far the last run is, what will need attention."""

import math
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from app.deploy import audit_log, issued
from app.deploy.certificates import WARN_DAYS, days_left
from app.deploy.control import control
from app.deploy.coordinator import Coordinator
from app.deploy.enrolment import Enrolled, enrolled
from app.deploy.releases import release, told
from app.fingerprint import code_hash
from app.processes import answers
from app.rounds.folder import RunFolder
from app.rounds.summary import read_summary

LITTLE_DISK_GB = 5.0
"""Runs and logs need a few hundred megabytes; Flower's state a few models of every hospital."""

RENEWAL = (
    "there, fedvox site init DIR --mtls makes a request; here, fedvox coordinator enrol {name} node.pub --request "
    "client.csr makes a new kit"
)

SHOWN = ("fedvox", "flwr", "torch")


def status(coordinator: Coordinator) -> dict[str, Any]:
    """All of it, as plain values; `findings` are sentences for people, none where all is well."""
    is_running = answers(coordinator.superlink_port) and answers(coordinator.listen)
    lines, run = _last_run(coordinator)
    hospitals = {
        member.hospital: {**here, **_last_answer(member.hospital, lines)}
        for member, here in _presence(coordinator, is_running)
    }
    certificates = {
        name: round(days_left(pair.read()), 1)
        for name, pair in (("authority", coordinator.authority), ("server", coordinator.server))
    }
    found = {
        "address": coordinator.address,
        "running": is_running,
        "hospitals": hospitals,
        "run": run,
        "versions": {name: metadata.version(name) for name in SHOWN} | {"code": code_hash()},
        "disk_gb": {"folder": _free_gb(coordinator.folder), "state": _free_gb(coordinator.state_dir.parent)},
        "certificate_days": certificates,
    }
    return found | {"findings": list(_findings(coordinator, found))}


def _presence(coordinator: Coordinator, is_running: bool) -> Iterator[tuple[Enrolled, dict[str, Any]]]:
    """Every enrolled hospital, with what the SuperLink knows of it."""
    known, releases = {}, told(coordinator)
    if is_running:
        with control(coordinator) as flower:
            known = {node.key: node for node in flower.nodes()}
    for member in enrolled(coordinator):
        node = known.get(member.spki)
        state = node.status if node else "unknown"
        since, key, has = node.since if node else "", member.fingerprint, releases.get(member.spki, "")
        facts = {"state": state, "since": since, "key": key, "release": has}
        yield member, facts | ({"certificate_days": _client_days(coordinator, member)} if coordinator.mtls else {})


def _client_days(coordinator: Coordinator, member: Enrolled) -> float | None:
    days = issued.days_left(coordinator, member)
    return None if days is None else round(days, 1)


def _last_run(coordinator: Coordinator) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The journal of the run that was started last, and where it stands."""
    events = audit_log.read(coordinator.folder / "audit.jsonl")
    started = [event for event in events if event["event"] == "run-started"]
    if not started:
        return [], None
    folder = RunFolder(Path(started[-1]["folder"]))
    lines, summary = folder.lines(), read_summary(folder)
    newest: Mapping[str, Any] = lines[-1] if lines else {}
    where = {
        "folder": str(folder.path),
        "by": started[-1]["by"],
        "state": summary["status"] if summary else "going on",
        "round": newest.get("round", 0),
        "asked": newest.get("asked", []),
        "answered": sorted(newest.get("reports", {})),
        "refused": newest.get("refused", []),
    }
    return lines, where


def _last_answer(hospital: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The last round of the run that a hospital is in, and what kept it out of later ones."""
    rounds = [line["round"] for line in lines if hospital in line["reports"]]
    refusals = [x for line in lines for x in line["refused"] if x["hospital"] == hospital]
    return {"last_round": rounds[-1] if rounds else None, "last_refusal": refusals[-1] if refusals else None}


def _findings(coordinator: Coordinator, found: Mapping[str, Any]) -> Iterator[str]:
    if not found["running"]:
        yield f"the coordinator is not running: fedvox coordinator start {coordinator.folder}"
    for name, days in found["certificate_days"].items():
        if days < WARN_DAYS:
            yield f"the {name} certificate ends in {days:.0f} days: fedvox coordinator rotate {coordinator.folder}"
    for name, free in found["disk_gb"].items():
        if free < LITTLE_DISK_GB:
            yield f"{free:.1f} GB are left for the {name}; {LITTLE_DISK_GB:g} should be"
    yield from _about_hospitals(found)


def _about_hospitals(found: Mapping[str, Any]) -> Iterator[str]:
    for name, facts in found["hospitals"].items():
        yield from _about_certificate(name, facts)
        if found["running"] and facts["state"] != "online":
            yield f"hospital {name} is {facts['state']}"
        if facts["release"] not in ("", release()):
            yield f"hospital {name} has fedvox {facts['release']}, here is {release()}: it will answer policy-code"


def _about_certificate(name: str, facts: Mapping[str, Any]) -> Iterator[str]:
    """Under mTLS a hospital whose certificate has ended is shut out."""
    if (days := facts.get("certificate_days", math.inf)) is None:
        yield f"hospital {name} was given no client certificate: {RENEWAL.format(name=name)}"
    elif days < WARN_DAYS:
        when = f"ends in {days:.0f} days" if days > 0 else f"ended {-days:.0f} days ago"
        yield f"the client certificate of hospital {name} {when}: {RENEWAL.format(name=name)}"


def _free_gb(folder: Path) -> float:
    return round(shutil.disk_usage(folder).free / 1e9, 1)
