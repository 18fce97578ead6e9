"""Calibration: the file of raw rows."""

from __future__ import annotations

import pytest

from llmsched.eval.calibration.rows import COLUMNS, OK, RowFile, SampleRow, Setup
from tests.reality.calibration.tools import CELLS, SETUP, opened

# Raw rows


def test_a_torn_last_line_is_forgotten(tmp_path):
    file = opened(tmp_path)
    for repeat in range(3):
        file.append(SampleRow(CELLS[0], 0, repeat, OK, 1.5))
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-7])
    assert len(opened(tmp_path).rows) == 2
    assert file.path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("field", ["model", "device", "dtype", "engine", "clock"])
def test_rows_of_another_setup_are_refused(tmp_path, field):
    file = opened(tmp_path)
    file.append(SampleRow(CELLS[0], 0, 0, OK, 1.5))
    other = Setup(**{**SETUP.__dict__, field: "other"})
    with pytest.raises(ValueError, match=rf"rows .*rows.csv, line 2: {field}='.*', but this run measures 'other'"):
        RowFile(file.path, other)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("decode,1,8,0,0,ok,-2", "ms '-2'"),
        ("decode,1,8,0,0,ok,", "ms ''"),
        ("decode,1,8,0,0,fine,2", "status 'fine'"),
        ("other,1,8,0,0,ok,2", "phase 'other'"),
        ("decode,x,8,0,0,ok,2", "invalid literal"),
        ("decode,0,8,0,0,ok,2", "batch 0"),
        ("decode", "not a row"),
    ],
)
def test_a_row_that_cannot_be_one_is_named(tmp_path, line, message):
    path = tmp_path / "rows.csv"
    path.write_text(",".join(COLUMNS) + "\nfake,a table,float32,none,wall," + line + "\n")
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        RowFile(path, SETUP)


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="the header is not model,device"):
        RowFile(path, SETUP)
    assert path.read_text() == "a,b\n1,2\n"
