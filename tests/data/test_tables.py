import math

import numpy as np
import pytest

from data.errors import BadTable
from data.tables import read_columns, text

COLUMNS = {"name": str, "value": float}


def table(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding=encoding, newline="")
    return path


def test_columns_are_found_by_name_whatever_their_order(tmp_path):
    path = table(tmp_path, "extra,value,name\nx,1.5,a\ny,2,b\n")
    columns = read_columns(path, COLUMNS)
    assert text(columns["name"]) == ["a", "b"]
    assert columns["value"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("encoding, newline", [("utf-8-sig", "\r\n"), ("utf-8", "\n"), ("utf-8", "\r\n")])
def test_spreadsheets_habits_are_understood(tmp_path, encoding, newline):
    path = table(tmp_path, newline.join(["name,value", '"Müller, A",1', "b,2"]), encoding)
    columns = read_columns(path, COLUMNS)
    assert text(columns["name"]) == ["Müller, A", "b"]
    assert columns["value"].tolist() == [1.0, 2.0]


def test_an_optional_column_may_be_absent_or_blank(tmp_path):
    path = table(tmp_path, "name,value\na,\nb,3\n")
    columns = read_columns(path, {"name": str}, optional={"value": float, "other": float})
    assert math.isnan(columns["value"][0])
    assert columns["value"][1] == 3
    assert "other" not in columns


def test_a_table_with_a_header_alone_is_empty(tmp_path):
    columns = read_columns(table(tmp_path, "name,value\n"), COLUMNS)
    assert len(columns["value"]) == 0


@pytest.mark.parametrize(
    "content, says",
    [
        ("name\na\n", "no column value"),
        ("", "no column name"),
        ("name,value\na,1\nb,ten\n", "line 3: value is 'ten'"),
        ("name,value\na,1\nb\n", "line 3: 1 values"),
        ("name,value\na,nan\n", "line 2: value is not a finite"),
        ("name,value\na,1\nb,inf\n", "line 3: value is not a finite"),
        ("name,value\n" + "x" * 65 + ",1\n", "line 2: name is longer than 64"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, content, says):
    with pytest.raises(BadTable, match=says):
        read_columns(table(tmp_path, content), COLUMNS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadTable, match=r"nowhere\.csv"):
        read_columns(tmp_path / "nowhere.csv", COLUMNS)


def test_numbers_survive_the_trip_bit_by_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=50) * 1e3
    path = table(tmp_path, "name,value\n" + "".join(f"n,{v!r}\n" for v in values.tolist()))
    assert (read_columns(path, COLUMNS)["value"] == values).all()
