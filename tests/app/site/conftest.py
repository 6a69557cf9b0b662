"""A ledger that nothing was spent on, and one with three rounds."""

import pytest

from app.site.budget import Budget
from tests.app.site.rounds_paid import answer


@pytest.fixture
def budget(tmp_path):
    return Budget(tmp_path / "state", tmp_path / "keys" / "north.key", "north")


@pytest.fixture
def used(budget):
    for round in (1, 2, 3):
        answer(budget, round=round)
    return budget
