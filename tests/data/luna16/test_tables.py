import numpy as np
import pytest

from data.errors import BadTable
from data.luna16.tables import (
    Annotation,
    CandidateRow,
    read_annotations,
    read_candidates,
    write_annotations,
    write_candidates,
)


def test_annotations_read_back_exactly_and_look_like_luna16s(tmp_path):
    rows = [
        Annotation("1.2.3", (-128.6994211, -175.3192718, 1 / 3), 5.651470635),
        Annotation("1.2.4", (0.0, 1.0, -2.5), -1.0),
    ]
    write_annotations(tmp_path / "a.csv", rows)
    assert read_annotations(tmp_path / "a.csv") == rows
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "seriesuid,coordX,coordY,coordZ,diameter_mm"


def test_candidates_are_found_by_scan_in_the_order_of_the_file(tmp_path):
    rows = [
        CandidateRow("1.2.9", (1.5, 2.5, 3.5), 0),
        CandidateRow("1.2.3", (4.0, 5.0, 6.0), 1),
        CandidateRow("1.2.9", (-1.0, -2.0, -3.0), 1),
    ]
    write_candidates(tmp_path / "c.csv", rows)
    table = read_candidates(tmp_path / "c.csv")
    assert table.of("1.2.9") == [rows[0], rows[2]]
    assert table.of("1.2.3") == [rows[1]]
    assert table.of("1.2.4") == []
    assert table.of("9.9") == []
    assert len(table) == 3
    assert list(table) == [rows[1], rows[0], rows[2]]
    assert (tmp_path / "c.csv").read_text().splitlines()[0] == "seriesuid,coordX,coordY,coordZ,class"


def test_an_empty_table_has_no_rows(tmp_path):
    write_candidates(tmp_path / "c.csv", [])
    assert len(read_candidates(tmp_path / "c.csv")) == 0
    assert read_candidates(tmp_path / "c.csv").of("1.2.3") == []


def test_a_class_that_is_neither_is_refused_with_its_line(tmp_path):
    (tmp_path / "c.csv").write_text("seriesuid,coordX,coordY,coordZ,class\n1.2,1,2,3,0\n1.2,1,2,3,2\n")
    with pytest.raises(BadTable, match="line 3: class is 2"):
        read_candidates(tmp_path / "c.csv")


def test_luna16s_own_tables_are_read_whole(real_data):
    # Row counts from LUNA16's description of the set: 1,186 nodules, 35,192 excluded findings.
    annotations = read_annotations(real_data / "luna16/annotations.csv")
    assert len(annotations) == 1186
    mean = float(np.mean([row.diameter_mm for row in annotations]))
    assert mean == pytest.approx(8.31, abs=0.01)
    assert len(read_annotations(real_data / "luna16/annotations_excluded.csv")) == 35192
