"""What of a hospital's statistics may leave it: medians of enough patients, rounded.

A number that fewer than `min_patients` patients stand behind is left out, and so are the low and high ends over scans,
which belong to one or two patients. What is left has three digits, shares have two; counts are rounded up to fives.
"""

from collections.abc import Mapping
from dataclasses import replace

from data.statistics.crops import CLASSES
from data.statistics.limits import base_name
from data.statistics.site import SiteStatistics
from data.statistics.vendors import OTHER

DIGITS = 3
STEP = 5

_BY_CLASS: Mapping[str, str] = {
    "crop_mean": "crop", "blank_share": "crop", "positive_centre": "positive",
    "positive_centre_hu": "positive", "negative_centre": "negative",
}  # fmt: skip
"""Numbers of crops → whose patients stand behind them."""


def disclosed(statistics: SiteStatistics, *, min_patients: int) -> SiteStatistics | None:
    """What may leave; None where the whole hospital, or what was looked at, is of fewer patients than that."""
    told = statistics.told
    if min(statistics.counts["patients"], statistics.counts["seen_patients"]) < min_patients:
        return None
    classes = [name for name in CLASSES if told.get(name, 0) >= min_patients]
    return replace(
        statistics,
        counts={name: _count(n) for name, n in statistics.counts.items()},
        vendors={name: _count(n) for name, n in statistics.vendors.items() if n >= min_patients and name != OTHER},
        numbers={
            name: _rounded(name, value)
            for name, value in statistics.numbers.items()
            if name == base_name(name) and _patients(statistics, name) >= min_patients
        },
        told={},
        histograms={name: tuple(_digits(s) for s in statistics.histograms[name]) for name in classes},
        separation={k: _digits(v) for k, v in statistics.separation.items()} if len(classes) == len(CLASSES) else {},
    )


def _patients(statistics: SiteStatistics, name: str) -> int:
    """Of how many patients a number is: those of all labels are of all patients."""
    told = statistics.told
    return told.get(_BY_CLASS.get(name, name), statistics.counts["patients"])


def _rounded(name: str, value: float) -> float:
    if name == "labelled":
        return float(_count(int(value)))
    # A share with three digits would tell the counts that are rounded.
    return round(value, 2) if name.endswith("_share") else _digits(value)


def _count(n: int) -> int:
    return -(-n // STEP) * STEP


def _digits(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
