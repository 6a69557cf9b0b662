"""Many values of one number → the three that are told of them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SHARES = {"_low": 10, "": 50, "_high": 90}
"""Percentiles by what their names end with."""


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, by name; nothing of no values."""
    if not len(values):
        return {}
    return {name + suffix: float(np.percentile(values, share)) for suffix, share in SHARES.items()}


def spreads(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The same of rows that do not all have every number."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {key: value for name, values in columns.items() for key, value in spread(name, values).items()}
