"""Units are runs of rows: whatever their sizes, each row is used once and results come back in order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.private import UnitsError
from models.private.units import Units

COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(COUNTS)
def test_each_unit_gets_its_own_rows_and_its_own_place(counts):
    units = Units.of(counts, rows=sum(counts))
    rows = torch.arange(1.0, sum(counts) + 1)[:, None]
    expected = torch.stack([part.sum(0) for part in rows.split(counts)])
    assert torch.equal(units.sum(rows), expected)
    assert torch.equal(units.each(lambda mine: mine.sum(1), rows), expected)


@given(COUNTS)
def test_spreading_and_summing_multiplies_by_the_size(counts):
    units, values = Units.of(counts, rows=sum(counts)), torch.arange(1.0, len(counts) + 1)
    assert torch.equal(units.sum(units.spread(values)[:, None])[:, 0], values * torch.tensor(counts))


def test_rows_that_lie_together_are_not_copied():
    rows = torch.zeros(12, 3)
    (same,) = Units.of((2,) * 6, rows=12).sizes
    assert same.take(rows).data_ptr() == rows.data_ptr()


@pytest.mark.parametrize(
    ("counts", "said"),
    [((2, 0), "unit 1 has 0 crops"), ((-1, 5), "unit 0 has -1 crops"), ((2, 3), "count 5 crops, the batch has 4")],
)
def test_counts_that_do_not_cut_the_batch_are_refused(counts, said):
    with pytest.raises(UnitsError, match=said):
        Units.of(counts, rows=4)
