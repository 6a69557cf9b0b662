"""Privacy units: which rows of a batch belong together.

A unit (a patient; or a single crop) is a contiguous run of rows of the batch. Suffixes here and in the files beside:
U units, B rows (crops) of the batch, G groups of channels, C channels in, D channels out, T positions of a map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.private.errors import UnitsError


@dataclass(frozen=True)
class SameSize:
    """The units that have `crops` rows each."""

    crops: int
    units: tuple[int, ...]
    rows: tuple[int, ...]
    """Their rows in the batch, unit by unit."""

    def take(self, rows_B: Tensor) -> Tensor:
        """(B, …) → (units, crops, …); a view where the rows are contiguous."""
        first, last = self.rows[0], self.rows[-1]
        if last - first + 1 == len(self.rows):
            mine = rows_B[first : last + 1]
        else:
            mine = rows_B.index_select(0, torch.tensor(self.rows, device=rows_B.device))
        return torch.unflatten(mine, 0, (len(self.units), self.crops))


@dataclass(frozen=True)
class Units:
    """How many consecutive rows each unit has, in the order of the batch."""

    counts: tuple[int, ...]

    @classmethod
    def of(cls, counts: Sequence[int], *, rows: int) -> "Units":
        """Check that `counts` cut a batch of `rows` rows. Raises UnitsError."""
        units = cls(tuple(int(count) for count in counts))
        for unit, count in enumerate(units.counts):
            if count < 1:
                raise UnitsError(f"unit {unit} has {count} crops; leave out units that were not drawn")
        if units.rows != rows:
            raise UnitsError(f"the units count {units.rows} crops, the batch has {rows}; count every crop once")
        return units

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def rows(self) -> int:
        """Rows of the batch."""
        return sum(self.counts)

    @cached_property
    def pairs(self) -> int:
        """Pairs of rows of one unit, all units together."""
        return sum(count * count for count in self.counts)

    @cached_property
    def sizes(self) -> tuple[SameSize, ...]:
        """The units by their number of rows."""
        starts = [sum(self.counts[:unit]) for unit in range(len(self))]
        members = {count: [u for u, c in enumerate(self.counts) if c == count] for count in sorted(set(self.counts))}
        return tuple(
            SameSize(count, tuple(units), tuple(row for u in units for row in range(starts[u], starts[u] + count)))
            for count, units in members.items()
        )

    def each(self, compute: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """Apply `compute` to the units of one size at a time, (u, crops, …) → (u, …); returns (U, …) in order."""
        parts = [compute(*(same.take(rows) for rows in batches)) for same in self.sizes]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([unit for same in self.sizes for unit in same.units], device=parts[0].device)
        return torch.cat(parts)[order.argsort()]

    def sum(self, rows_B: Tensor) -> Tensor:
        """(B, …) → (U, …): the sum over each unit's rows."""
        if len(self) == self.rows:
            return rows_B
        return self.each(lambda rows: rows.sum(1), rows_B)

    def spread(self, values_U: Tensor) -> Tensor:
        """(U,) → (B,): each unit's value on each of its rows."""
        return values_U.repeat_interleave(torch.tensor(self.counts, device=values_U.device), output_size=self.rows)
