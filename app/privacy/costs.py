"""What a run cost each hospital's unit of privacy, from facts in the journal and in final answers.

Private training: the hospital's ledger says, in each answer. Noise at the server: ε of the releases in the journal; it
is the same for every hospital that took part, since all were hidden in the same sums.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.config import Config
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import Event, from_json

STATED = ("epsilon", "delta", "cap", "spent", "ledger")


def cost(
    name: str, config: Config, lines: Sequence[Mapping[str, Any]], last: Mapping[str, Any]
) -> dict[str, Any] | None:
    """{"unit", "epsilon", "delta", "cap", "spent", "ledger"} of a hospital; None where no mechanism ran.

    `epsilon` is None where none can be claimed (a fixed seed, no clipping). `last` is what the hospital said beside its
    final answer, if it did.
    """
    unit = config["strategy"]["privacy"].get("unit")
    if unit is not None:
        return _by_ledger(unit, config, _statements(name, lines, last))
    events = [from_json(line["privacy"]) for line in _shared_with(name, lines) if line["privacy"]]
    return _by_releases(events, float(config["budget"]["delta"])) if events else None


def releases(lines: Iterable[Mapping[str, Any]]) -> list[Event]:
    """What the server released, round by round."""
    return [from_json(line["privacy"]) for line in lines if line["privacy"]]


def _by_ledger(unit: str, config: Config, stated: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last = stated[-1] if stated else {}
    said = {key: last.get(key) for key in STATED}
    return {"unit": unit, **said, "delta": said["delta"] or config["strategy"]["privacy"]["delta"]}


def _by_releases(events: Sequence[Event], delta: float) -> dict[str, Any]:
    spent = epsilon(events, delta)
    return {
        "unit": events[-1].unit,
        "epsilon": spent if math.isfinite(spent) else None,
        "delta": delta,
        "cap": None,
        "spent": None,
        "ledger": None,
    }


def _statements(name: str, lines: Sequence[Mapping[str, Any]], last: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Oldest first; only answers that state something."""
    reports = [line["reports"][name] for line in lines if name in line["reports"]]
    return [report for report in (*reports, last) if report.get("epsilon") is not None]


def _shared_with(name: str, lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The journal of every leg that a hospital was asked in: rounds in which it was silent are counted too."""
    legs = {line["leg"] for line in lines if name in line["asked"] or "central" in line["asked"]}
    return [line for line in lines if line["leg"] in legs]
