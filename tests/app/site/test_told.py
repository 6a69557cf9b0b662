"""What a hospital tells of its data: read back as it was written, and nothing else is read."""

import pytest

from app.site.told import keys, read, record
from data.statistics import SiteStatistics
from data.statistics.crops import BINS
from data.statistics.site import COUNTS
from strategies.errors import RecordError

SITE = SiteStatistics(
    is_ct=True,
    counts=dict.fromkeys(COUNTS, 25),
    vendors={"GE": 25},
    numbers={"tissue_hu": 31.2, "labelled": 140.0},
    told={},
    histograms={"positive": (1 / BINS,) * BINS},
    separation={"round": 0.31},
)


def test_what_was_told_is_read_back():
    assert read(record("north", SITE)) == SITE


def test_having_passed_is_all_that_is_told_by_who_compared_itself():
    assert record("north", None) == {"hospital": "north", "passed": True}
    assert read(record("north", None)) is None


def test_every_key_told_is_one_of_those_that_may_be():
    assert set(record("north", SITE)) <= keys()


@pytest.mark.parametrize(
    ("altered", "said"),
    [
        ({"number.patient_name": 1.0}, "patient_name"),
        ({"note": "Anna"}, "note"),
        ({"number.tissue_hu": "Anna"}, "tissue_hu"),
        ({"number.tissue_hu": float("inf")}, "tissue_hu"),
        ({"number.tissue_hu": True}, "tissue_hu"),
        ({"count.patients": 2.5}, "patients"),
        ({"vendor.ANNA": 5}, "ANNA"),
        ({"histogram.positive": [0.1] * (BINS - 1)}, "histogram"),
        ({"histogram.positive": ["Anna"] * BINS}, "histogram"),
    ],
)
def test_anything_else_is_not_read(altered, said):
    with pytest.raises(RecordError, match=said):
        read({**record("north", SITE), **altered})


def test_counts_must_all_be_there():
    told = record("north", SITE)
    del told["count.scans"]
    with pytest.raises(RecordError, match="without scans"):
        read(told)
