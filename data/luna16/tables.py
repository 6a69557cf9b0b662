"""LUNA16's tables of places in scans, in its own columns and order.

`annotations.csv` and `annotations_excluded.csv`: seriesuid,coordX,coordY,coordZ,diameter_mm
`candidates.csv` and `candidates_V2.csv`:         seriesuid,coordX,coordY,coordZ,class

Coordinates are patient coordinates (LPS, mm), as in the scans' own headers. The candidates of the whole set are
755,000 rows, so they stay columns (26 MB); the rest is small.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import BadTable
from data.tables import read_columns, text, write_rows
from data.volume import Point

_PLACE = ("seriesuid", "coordX", "coordY", "coordZ")
_PLACE_TYPES: dict[str, type] = {"seriesuid": str, "coordX": float, "coordY": float, "coordZ": float}


@dataclass(frozen=True)
class Annotation:
    """A nodule as the readers marked it."""

    series_uid: str
    centre_xyz_mm: Point
    diameter_mm: float
    """Negative in `annotations_excluded.csv` where no diameter was measured."""


@dataclass(frozen=True)
class CandidateRow:
    """A place that a detector proposed."""

    series_uid: str
    centre_xyz_mm: Point
    label: int
    """LUNA16's `class`: 1 where it hits a nodule, 0 elsewhere."""


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """All candidates of a set, sorted by scan (the file's order inside a scan), one array per column."""

    series_uids: tuple[str, ...]
    """Scans with candidates, sorted."""
    starts: NDArray[np.int64]
    """Candidates of scan i are rows starts[i] to starts[i + 1]."""
    centres_xyz_mm: NDArray[np.float64]
    """(N, 3)"""
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[CandidateRow]:
        for uid in self.series_uids:
            yield from self.of(uid)

    def of(self, series_uid: str) -> list[CandidateRow]:
        """The candidates of one scan; none where the table does not name it."""
        i = int(np.searchsorted(self.series_uids, series_uid))
        if i == len(self.series_uids) or self.series_uids[i] != series_uid:
            return []
        rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
        places, labels = self.centres_xyz_mm[rows].tolist(), self.labels[rows].tolist()
        return [CandidateRow(series_uid, (x, y, z), label) for (x, y, z), label in zip(places, labels, strict=True)]


def read_annotations(path: str | Path) -> list[Annotation]:
    """Rows in the file's order. Raises BadTable, with the line."""
    columns = read_columns(Path(path), {**_PLACE_TYPES, "diameter_mm": float})
    places = _centres(columns).tolist()
    rows = zip(text(columns["seriesuid"]), places, columns["diameter_mm"].tolist(), strict=True)
    return [Annotation(uid, (x, y, z), diameter) for uid, (x, y, z), diameter in rows]


def write_annotations(path: str | Path, rows: Iterable[Annotation]) -> None:
    lines = ((row.series_uid, *row.centre_xyz_mm, row.diameter_mm) for row in rows)
    write_rows(Path(path), (*_PLACE, "diameter_mm"), lines)


def read_candidates(path: str | Path) -> CandidateTable:
    """Read `candidates.csv` or `candidates_V2.csv`. Raises BadTable, with the line."""
    path = Path(path)
    columns = read_columns(path, {**_PLACE_TYPES, "class": float})  # candidates_V2 writes 0 and 1, some copies 0.0
    labels = columns["class"]
    if len(wrong := np.flatnonzero((labels != 0) & (labels != 1))):
        row = int(wrong[0])
        raise BadTable(f"{path}, line {row + 2}: class is {labels[row]:g}; LUNA16 knows 0 and 1")
    uids, code = _codes(columns["seriesuid"])
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(uids) + 1))
    return CandidateTable(uids, starts, _centres(columns)[order], labels[order].astype(np.int8))


def write_candidates(path: str | Path, rows: Iterable[CandidateRow]) -> None:
    lines = ((row.series_uid, *row.centre_xyz_mm, row.label) for row in rows)
    write_rows(Path(path), (*_PLACE, "class"), lines)


def _centres(columns: Any) -> NDArray[np.float64]:
    return np.column_stack([columns[name] for name in _PLACE[1:]])


def _codes(cells: NDArray[Any]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Text → (sorted distinct values, index of each row's value). Rows of one scan stand together, so runs are few."""
    if len(cells) == 0:
        return (), np.empty(0, np.int64)
    first = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    of_run = text(cells[first])
    uids = tuple(sorted(set(of_run)))
    rank = {uid: i for i, uid in enumerate(uids)}
    lengths = np.diff(np.append(first, len(cells)))
    return uids, np.repeat([rank[uid] for uid in of_run], lengths).astype(np.int64)
