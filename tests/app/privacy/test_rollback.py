"""A ledger that went back is named from what its hospital said, and one that only grew is not."""

import pytest

from app.privacy.rollback import rolled_back


def journal(*said, name="north"):
    return [line(n, {name: text}) for n, text in enumerate(said, start=1)]


def line(round, ledgers, leg=""):
    return {"leg": leg, "round": round, "reports": {name: {"ledger": text} for name, text in ledgers.items() if text}}


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
    lines = [line(1, {"north": "9:aa", "south": "3:aa"}), line(2, {"north": "11:bb", "south": "2:bb"})]
    assert [found.hospital for found in rolled_back(lines)] == ["south"]


def test_rounds_that_came_once_more_are_not_taken_for_earlier_ones():
    """Listed first, they follow rounds below them; charged anew, they come again with a longer ledger."""
    again = [line(2, {"north": "5:bb"}), line(3, {"north": "7:cc"})]
    assert list(rolled_back([*again, *journal("3:aa", "9:dd", "11:ee")])) == []
    assert [found.round for found in rolled_back([*again, *journal("3:aa", "5:dd")])] == [2]
