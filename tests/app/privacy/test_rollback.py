"""A ledger that went back is named from what its hospital said, and one that only grew is not."""

import pytest

from app.privacy.rollback import rolled_back


def journal(*said, name="north"):
    return [{"round": n, "reports": {name: {"ledger": text}} if text else {}} for n, text in enumerate(said, start=1)]


@pytest.mark.parametrize(
    "said",
    [
        (),
        ("", ""),  # training that is not private tells of no ledger
        ("3:aa", "5:bb", "9:cc"),
        ("3:aa", "", "5:bb"),
        ("3:aa", "3:aa", "5:bb"),  # the first answer was sent again
    ],
)
def test_a_ledger_that_grows_or_says_the_same_again_is_no_matter(said):
    assert list(rolled_back(journal(*said))) == []


@pytest.mark.parametrize(
    ("said", "where"),
    [
        (("5:bb", "3:aa"), (2, 3, 5)),
        (("3:aa", "5:bb", "5:cc"), (3, 5, 5)),
        (("9:aa", "", "5:bb", "11:cc"), (3, 5, 9)),
    ],
)
def test_a_shorter_ledger_or_another_end_is_named_with_its_round(said, where):
    (found,) = rolled_back(journal(*said))
    assert (found.hospital, found.round, found.said.length, found.before.length) == ("north", *where)
    assert str(found).startswith(f"ledger-rolled-back: the ledger of north has {where[1]} lines in round {where[0]}")


def test_hospitals_are_compared_with_themselves_alone():
    north, south = journal("9:aa", "11:bb"), journal("3:aa", "2:bb", name="south")
    lines = [
        {"round": a["round"], "reports": {**a["reports"], **b["reports"]}} for a, b in zip(north, south, strict=True)
    ]
    assert [found.hospital for found in rolled_back(lines)] == ["south"]
