"""What a hospital says of its data before round 1, as one record of scalars: written there, checked by the server.

    hospital, is_ct, count.NAME, vendor.NAME, number.NAME, separation.SHAPE, histogram.CLASS (a list)

Names are fixed by `data.statistics`; a record with any other name, or a value that is no number, is not read.
"""

import math
from collections.abc import Mapping
from typing import Any

from data.statistics import SiteStatistics
from data.statistics.crops import BINS, CLASSES
from data.statistics.quantities import QUANTITIES
from data.statistics.shape import SHAPES
from data.statistics.site import COUNTS
from data.statistics.vendors import KNOWN
from strategies.errors import RecordError

PASSED = "passed"
"""Alone in a record: the hospital compared itself with the ranges and is within them."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "count": COUNTS,
    "vendor": KNOWN,
    "number": tuple(QUANTITIES),
    "separation": SHAPES,
    "histogram": CLASSES,
}
"""All that may be told, by the first half of its key."""

_FIELDS = {"count": "counts", "vendor": "vendors", "number": "numbers", "histogram": "histograms"}


def keys() -> frozenset[str]:
    """Every key that a record may have."""
    named = {f"{kind}.{name}" for kind, names in NAMES.items() for name in names}
    return frozenset(named | {"hospital", "is_ct", PASSED})


def record(hospital: str, statistics: SiteStatistics | None) -> dict[str, Any]:
    """What leaves; None: no more than that the hospital passed its own comparison."""
    if statistics is None:
        return {"hospital": hospital, PASSED: True}
    plain = statistics.plain()
    told: dict[str, Any] = {"hospital": hospital, "is_ct": statistics.is_ct}
    for kind in NAMES:
        told |= {f"{kind}.{name}": value for name, value in plain[_FIELDS.get(kind, kind)].items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}


def read(told: Mapping[str, Any]) -> SiteStatistics | None:
    """The inverse of `record`. Raises RecordError for a name or a value that does not belong there."""
    if unknown := sorted(set(told) - keys()):
        raise RecordError(f"statistics with {unknown[0]!r}, which is nothing that a hospital tells")
    if told.get(PASSED) is True:
        return None
    halves: dict[str, dict[str, Any]] = {kind: {} for kind in NAMES}
    for key, value in told.items():
        kind, _, name = key.partition(".")
        if name:
            halves[kind][name] = _checked(kind, name, value)
    if set(halves["count"]) != set(COUNTS):
        raise RecordError(f"statistics without {', '.join(sorted(set(COUNTS) - set(halves['count'])))}")
    named = {_FIELDS.get(kind, kind): values for kind, values in halves.items()}
    return SiteStatistics(is_ct=bool(told.get("is_ct")), told={}, **named)


def _checked(kind: str, name: str, value: Any) -> Any:
    if kind == "histogram":
        if not isinstance(value, list) or len(value) != BINS or not all(_is_number(share) for share in value):
            raise RecordError(f"statistics with a histogram of {name}s that is not {BINS} numbers")
        return tuple(value)
    if not _is_number(value) or (kind in ("count", "vendor") and not (isinstance(value, int) and value >= 0)):
        raise RecordError(f"statistics with a {kind} {name} that is none")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
