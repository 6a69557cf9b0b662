import time

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


def test_the_candidates_of_the_whole_set_are_read_in_seconds(tmp_path):
    # As many as candidates_V2.csv has, over as many scans; two seconds are asked for on a quiet machine.
    rows, scans = 754_975, 888
    uids = [f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{k:030d}" for k in range(scans)]
    lines = (
        f"{uids[i * scans // rows]},{i % 300 - 150}.25,{i % 199}.5,-{i % 350}.125,{int(i % 485 == 0)}"
        for i in range(rows)
    )
    path = tmp_path / "candidates_V2.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ,class\n" + "\n".join(lines) + "\n")
    began = time.process_time()
    table = read_candidates(path)
    took = time.process_time() - began
    assert (len(table), len(table.series_uids)) == (rows, scans)
    assert took < 4.0  # 1.1 s, and 123 MB, on the machine this was written on
