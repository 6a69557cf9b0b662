"""Before round 1: ask every hospital what its data measure, compare, and stop where one would poison the others.

What hospitals tell and what was found stands in the run folder, comparison.json. A hospital that compares itself
(because training is private, or it has too few patients to tell) answers pass, or declines.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from app.config import Config, build
from app.files import write_json
from app.rounds.differences import Differences, Remark
from app.rounds.folder import RunFolder
from app.rounds.roster import STATISTICS, Roster
from app.site.told import read
from data.statistics import ImplausibleSite, Limits, SiteStatistics
from strategies import records
from strategies.errors import RecordError
from strategies.exchange.post import Answer, Post
from strategies.types import Plan

log = logging.getLogger(__name__)

STOPPING = ("implausible", "declined")
"""Beginnings of codes by which a hospital says that its own comparison failed."""

POLL_S = 0.25


@dataclass(frozen=True)
class Told:
    """What hospitals answered."""

    sites: Mapping[str, SiteStatistics]
    passed: tuple[str, ...]
    """Compared themselves."""
    refused: Mapping[str, str]
    """Hospital → code; also those that did not answer."""


def compare(grid: Grid, config: Config, folder: RunFolder, roster: Roster, plan: Plan) -> None:
    """Ask, compare, write comparison.json.

    Raises:
        ImplausibleSite: a hospital's data are not like data can be, or not like the others'; each is named with the
            number, its value and what it may be.
    """
    settings = config["comparison"]
    if settings["where"] == "nowhere":
        return
    told = ask(grid, config, roster, plan)
    remarks = [*_remarks(told, build(settings["limits"]), build(settings["differences"]))]
    write_json(folder.path / "comparison.json", _facts(told, remarks))
    for remark in remarks:
        if not remark.stops:
            log.warning("hospital %s: %s", remark.hospital, remark.text)
    if stopping := [remark for remark in remarks if remark.stops]:
        raise ImplausibleSite("; ".join(f"hospital {remark.hospital}: {remark.text}" for remark in stopping))


def ask(grid: Grid, config: Config, roster: Roster, plan: Plan) -> Told:
    """What every hospital of the roster that is there says its data measure."""
    post, deadline = Post(grid, POLL_S), float(config["deadline_s"])
    nodes = _present(grid, roster, float(config["comparison"]["wait_s"]))
    messages = {
        name: records.request(node, STATISTICS, replace(plan, hospital=name), model=ArrayRecord(), ttl_s=deadline)
        for name, node in sorted(nodes.items())
    }
    return _told([*post.send(messages, 0), *post.collect(0, deadline)], set(roster.hospitals) - set(nodes))


def _present(grid: Grid, roster: Roster, wait_s: float) -> dict[str, int]:
    """The hospitals that are there, once all are, or none came for a while."""
    until = time.monotonic() + wait_s
    while True:
        nodes = roster(grid)
        if set(roster.hospitals) <= set(nodes) or time.monotonic() >= until:
            return nodes
        time.sleep(POLL_S)


def _told(answers: list[Answer], absent: set[str]) -> Told:
    sites: dict[str, SiteStatistics] = {}
    passed, refused = [], dict.fromkeys(sorted(absent), "not-there")
    for answer in answers:
        try:
            statistics = _statistics(answer.message) if answer.message is not None else None
        except (RecordError, _Declines) as error:
            refused[answer.hospital] = error.code
            continue
        if answer.message is None:
            refused[answer.hospital] = answer.code
        elif statistics is None:
            passed.append(answer.hospital)
        else:
            sites[answer.hospital] = statistics
    return Told(sites, tuple(passed), refused)


class _Declines(Exception):
    """A hospital's code instead of an answer."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def _statistics(message: Message) -> SiteStatistics | None:
    if code := records.declined(message):
        raise _Declines(code)
    return read(records.read_scores(message).report)


def _remarks(told: Told, limits: Limits, differences: Differences) -> Iterator[Remark]:
    for name, code in told.refused.items():
        stops = code.startswith(STOPPING)
        why = "its own comparison failed, its log has the numbers" if stops else "it was not compared with the others"
        yield Remark(name, "answer", f"{code}: {why}", stops)
    for name, site in told.sites.items():
        for oddity in limits.oddities(site.numbers):
            text = f"{oddity.what}{_elsewhere(oddity.name, name, told.sites)}: {oddity.quantity.fault}"
            yield Remark(name, oddity.name, text, stops=oddity.is_fault)
    odd = {name for name, site in told.sites.items() if any(o.is_fault for o in limits.oddities(site.numbers))}
    # Who is out of any range would drag the others' median along, and be named twice.
    yield from differences.remarks({name: site for name, site in told.sites.items() if name not in odd})


def _elsewhere(quantity: str, name: str, sites: Mapping[str, SiteStatistics]) -> str:
    known = [
        f"{site.numbers[quantity]:.4g}" for other, site in sites.items() if other != name and quantity in site.numbers
    ]
    return f" (other hospitals: {', '.join(known)})" if known else ""


def _facts(told: Told, remarks: list[Remark]) -> dict[str, Any]:
    return {
        "hospitals": {name: site.plain() for name, site in told.sites.items()},
        "passed": list(told.passed),
        "not_compared": dict(told.refused),
        "hounsfield": any(site.is_ct for site in told.sites.values()) if told.sites else None,
        "remarks": [asdict(remark) for remark in remarks],
    }
