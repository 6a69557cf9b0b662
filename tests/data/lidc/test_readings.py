"""LIDC's XML, made on the spot: what is read of it, and what is refused."""

import pytest

from data.errors import BadReading
from data.lidc import read_reading
from tests.data.lidc.xml import message, nodule, ring


def write(tmp_path, content):
    (tmp_path / "reading.xml").write_text(content)
    return tmp_path / "reading.xml"


def test_readers_outlines_and_ratings_are_read(tmp_path):
    hole = ring("1.2.3.5", 10, 10, 1).replace("TRUE", "FALSE")
    text = message("1.2.3", [[nodule(ring("1.2.3.4", 10, 10, 3) + hole, malignancy=4)], [], [nodule(ring("1.2.3.4"))]])
    reading = read_reading(write(tmp_path, text))
    assert (reading.series_uid, reading.readers) == ("1.2.3", 3)
    first, second = reading.markings
    assert (first.reader, second.reader) == (0, 2)
    assert (first.malignancy, second.malignancy) == (4, None)
    assert [(outline.slice_uid, outline.is_inclusion) for outline in first.outlines] == [
        ("1.2.3.4", True),
        ("1.2.3.5", False),
    ]
    assert first.outlines[0].points_xy[0].tolist() == [7, 7]


def test_points_on_small_nodules_and_on_non_nodules_are_left_out(tmp_path):
    point = nodule(
        "<roi><imageSOP_UID>1</imageSOP_UID><inclusion>TRUE</inclusion>"
        "<edgeMap><xCoord>3</xCoord><yCoord>4</yCoord></edgeMap></roi>"
    )
    other = "<nonNodule><nonNoduleID>7</nonNoduleID><imageSOP_UID>1</imageSOP_UID></nonNodule>"
    assert read_reading(write(tmp_path, message("1.2.3", [[point, other]]))).markings == ()


def test_a_malignancy_of_0_is_none(tmp_path):
    (marking,) = read_reading(write(tmp_path, message("1", [[nodule(ring("2"), malignancy=0)]]))).markings
    assert marking.malignancy is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<a><b></a>", "no XML"),
        ("", "no XML"),
        ("<IdriReadMessage/>", "a 'IdriReadMessage', not a LidcReadMessage"),
        (message("", [[]]), "an empty SeriesInstanceUid"),
        (message("1", []), "no reading session"),
        ("<LidcReadMessage/>", "a LidcReadMessage without ResponseHeader"),
        (message("1", [[nodule("<roi><inclusion>TRUE</inclusion></roi>")]]), "a roi without imageSOP_UID"),
        (message("1", [[nodule(ring("2"), malignancy="high")]]), "malignancy is 'high'"),
        (message("1", [[nodule(ring("2").replace(">8<", ">8.5<", 1))]]), "xCoord is '8.5'"),
        ('<!DOCTYPE a [<!ENTITY b "bbbb">]><LidcReadMessage>&b;</LidcReadMessage>', "definitions of its own"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, content, said):
    with pytest.raises(BadReading, match=said) as caught:
        read_reading(write(tmp_path, content))
    assert "reading.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadReading, match=r"gone\.xml: No such file"):
        read_reading(tmp_path / "gone.xml")
