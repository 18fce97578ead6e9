"""Traces of others: units are known or refused, every kind of file is read or refused in one line, in bounded work."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmsched_env.workload.traces import Trace, read_trace
from llmsched_env.workload.workload import Workload
from tests.faults.tools import ROOT, run

CASES = ROOT.parent / "shared" / "cases"
ROWS = [(0.5 * row, 100 + row, 20 + row) for row in range(40)]
PLAIN = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{t},{p},{o}\n" for t, p, o in ROWS)


def written(folder: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def assert_rows(trace: Trace) -> None:
    """The trace holds ROWS."""
    assert len(trace) == len(ROWS)
    np.testing.assert_allclose(trace.arrival_s, [row[0] for row in ROWS], atol=1e-9)
    assert trace.prompt_tokens.tolist() == [row[1] for row in ROWS]
    assert trace.output_tokens.tolist() == [row[2] for row in ROWS]


def with_time(head: str, factor: float, start: float = 0.0) -> str:
    """ROWS as CSV with another name and unit of the times."""
    lines = "".join(f"{start + factor * t:.10g},{p},{o}\n" for t, p, o in ROWS)
    return f"{head},prompt_tokens,output_tokens\n{lines}".replace("e+", "e")


def json_lines(key: str = "timestamp", factor: float = 1e3, more: str = "") -> str:
    """ROWS as JSON lines."""
    rows = (f'{{{more}"{key}": {factor * t:.10g}, "input_length": {p}, "output_length": {o}}}\n' for t, p, o in ROWS)
    return "".join(rows)


CHAT = '"chat_id": 3, "parent_chat_id": -1, '
BENCHMARK = {"start_times": [5e3 + row[0] for row in ROWS], "input_lens": [row[1] for row in ROWS]}
BENCHMARK["output_lens"] = [row[2] for row in ROWS]
READ: dict[str, str | bytes] = {
    "plain": PLAIN,
    "arrival_ms": with_time("arrival_ms", 1e3),
    "arrival (us)": with_time("Arrival (us)", 1e6),
    "arrival [ns]": with_time("arrival [ns]", 1e9),
    "arrival_seconds": with_time("arrival_seconds", 1.0),
    "epoch in ms": with_time("arrival_ms", 1e3, 1.7e12 + 0.0).replace("1.7e12", "1700000000000"),
    "burstgpt": with_time("Timestamp", 1.0).replace("prompt_tokens,output", "Request tokens,Response"),
    "burstgpt in ms": with_time("Timestamp (ms)", 1e3).replace("prompt_tokens,output", "Request tokens,Response"),
    "vidur": with_time("arrived_at", 1.0).replace("prompt_tokens,output_", "num_prefill_tokens,num_decode_"),
    "mooncake": json_lines(),
    "mooncake, other keys first": json_lines(more='"x": [1], '),
    "bailian": json_lines(factor=1.0, more=CHAT),
    "timestamp_s": json_lines("timestamp_s", 1.0),
    "timestamp_us": json_lines("timestamp_us", 1e6),
    "an array": "[" + json_lines().strip().replace("\n", ",\n") + "]",
    "a benchmark": json.dumps(BENCHMARK),
    "a benchmark on many lines": json.dumps(BENCHMARK, indent=1),
    "carriage returns": PLAIN.replace("\n", "\r"),
    "both line ends": PLAIN.replace("\n", "\r\n"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, the other way": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-8 with a mark": PLAIN.encode("utf-8-sig"),
    "gzip": gzip.compress(PLAIN.encode()),
    "gzip of UTF-16": gzip.compress(PLAIN.encode("utf-16")),
    "a wide header": "\n".join(
        line + (",column" * 3000 if row == 0 else ",1" * 3000) for row, line in enumerate(PLAIN.split())
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_every_form_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    """Whatever its unit, encoding and line ends."""
    if kind == "epoch in ms":
        rows = "".join(f"{1_700_000_000_000 + round(1e3 * t)},{p},{o}\n" for t, p, o in ROWS)
        assert_rows(read_trace(written(tmp_path, f"arrival_ms,prompt_tokens,output_tokens\n{rows}")))
    else:
        assert_rows(read_trace(written(tmp_path, READ[kind])))


def zipped(content: bytes) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("trace.csv", content)
    return out.getvalue()


DIGITS = "1" + "0" * 400
REFUSED: dict[str, tuple[Any, str]] = {
    "no unit": (with_time("arrival", 1.0), "seconds or in milliseconds"),
    "an unknown unit": (with_time("arrival (fortnights)", 1.0), "unit that is not known"),
    "milliseconds since 1970": (
        "Timestamp,Request tokens,Response tokens\n1700000000000,1,1\n1700000000500,1,1\n",
        "years",
    ),
    "fractions of milliseconds": (json_lines(factor=1.0), "timestamp_s or timestamp_ms"),
    "two units": (json_lines() + json_lines(factor=1.0, more=CHAT), "units differ"),
    "400 digits": (f"arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,{DIGITS},1\n", "row 2: prompt_tokens"),
    "400 digits of time": (f"arrival_s,prompt_tokens,output_tokens\n0,1,1\n{DIGITS},1,1\n", "row 2: arrival_s"),
    "400 digits in JSON": (
        f'{{"timestamp": 0, "input_length": {DIGITS}, "output_length": 1}}\n' * 2,
        "row 1: a whole number of 401 digits",
    ),
    "5000 digits in JSON": (f'{{"timestamp": 0, "input_length": {DIGITS * 13}, "output_length": 1}}\n', "row 1"),
    "truth values": ('{"timestamp": 0, "input_length": true, "output_length": 1}\n' * 2, "row 1: input_length=True"),
    "truth values in CSV": (
        "arrival_s,prompt_tokens,output_tokens\n0,True,1\n1,False,1\n",
        "row 1: prompt_tokens=True",
    ),
    "NaN": ('{"timestamp": 0, "input_length": NaN, "output_length": 1}\n' * 2, "row 1: input_length=nan"),
    "infinity": ('{"timestamp": Infinity, "input_length": 1, "output_length": 1}\n' * 2, "row 1: timestamp=inf"),
    "deep JSON": ('{"timestamp": ' + "[" * 100_000 + "\n", "nested too deeply"),
    "a deep array": ("[" * 100_000, "nested too deeply"),
    "two columns of one name": (PLAIN.replace("output_tokens\n", "output_tokens,prompt_tokens\n", 1), "mean the same"),
    "two units of one time": (PLAIN.replace("output_tokens\n", "output_tokens,arrival_ms\n", 1), "mean the same"),
    "more fields, in quotes": (PLAIN + '"30",1,2,3\n', "row 41: 4 fields under 3 columns"),
    "a quote without an end": (PLAIN + '30,"1,2\n31,1,2\n', "not readable as CSV"),
    "a class column": (PLAIN.replace("output_tokens\n", "output_tokens,slo_class\n", 1), "slo_class"),
    "a class in JSON": (json_lines(more='"slo_class": [1], '), "slo_class"),
    "half a benchmark": (json.dumps({**BENCHMARK, "input_lens": [1]}), "differ in length"),
    "a benchmark without details": (json.dumps({"input_lens": 3}), "--save-detailed"),
    "zip": (zipped(PLAIN.encode()), "a zip archive"),
    "Parquet": (b"PAR1" + bytes(100), "Parquet"),
    "bzip2": (bz2.compress(PLAIN.encode()), "bzip2"),
    "xz": (lzma.compress(PLAIN.encode()), "xz"),
    "a pickle": (b"\x80\x04cos\nsystem\n", "a pickle, which is never read"),
    "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "UTF-16"),
    "half a letter of UTF-16": (PLAIN.encode("utf-16")[:-1], "UTF-16"),
    "Latin-1": ("arrivée,".encode("latin-1") + PLAIN.encode(), "not UTF-8"),
    "torn gzip": (gzip.compress(PLAIN.encode())[:-20], "gzip is damaged"),
    "empty gzip": (gzip.compress(b""), "empty"),
    "a gzip bomb": (gzip.compress(b"0" * 2**27), "unpack to more than"),
    "escape sequences": ("\x1b[31mtime,a,b\n1,2,3\n", "\\x1b[31m"),
    "one long field": ("a" * 10**6, "unknown columns"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    """With the file, and where it is about a row the row and the field."""
    content, said = REFUSED[kind]
    line = run("--workload", written(tmp_path, content)).refused("trace.csv", said)
    assert len(line) < 1200


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, standard input is not read, a folder and a dangling link are named."""
    os.mkfifo(tmp_path / "pipe.csv")
    run("--workload", tmp_path / "pipe.csv").refused("a pipe")
    run("--workload", tmp_path).refused("a folder")
    run("--workload", "-").refused("standard input")
    run("--workload", os.devnull).refused("a device")
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    run("--workload", tmp_path / "link.csv").refused("no such file")
    for option in ("--profile",):
        run(option, tmp_path / "pipe.csv").refused("a pipe")
        run(option, written(tmp_path, f'{{"a": {"[" * 10**5}', "deep.json")).refused("deep")


def test_the_stated_rate_is_the_rate_of_what_is_scored() -> None:
    """Where the first tenth, which is not scored, is ten times slower than the rest; a burst stays one instant."""
    times = np.r_[10.0 * np.arange(100), 1000.0 + np.arange(900)]
    ones = np.ones(1000, np.int32)
    for rate in (0.5, 4.0):
        workload = Workload(Trace(times, ones, ones), requests=20_000, rate=rate)
        drawn = workload.draw(3).arrival_s[workload.warmup :]
        assert (len(drawn) - 1) / (drawn[-1] - drawn[0]) == pytest.approx(rate, rel=0.01)
    assert Workload(Trace(times, ones, ones)).mean_rate == pytest.approx(1.0)
    burst = Trace(np.r_[0.0, 50.0 * np.ones(29)], ones[:30], ones[:30])
    assert len(np.unique(Workload(burst, requests=29, rate=7.0).draw(0).arrival_s)) <= 3


def test_a_run_in_which_nothing_is_scored_is_refused(tmp_path: Path) -> None:
    """As for a generator."""
    run("--workload", written(tmp_path, PLAIN), "--duration", "0.2").refused("no request is scored")


GIVEN = {  # file: (rows, requests/s), or what its refusal says
    "h01_bailian_seconds.jsonl": (60, 59 / 115.908),
    "h03_timestamp_ms_header.csv": (40, 2.0),
    "h04_too_many_digits.csv": "row 2",
    "h04_too_many_digits.jsonl": "row 2",
    "h05_plain.csv": (40, 2.0),
    "h06_array.json": (40, 2.0),
    "h06_cr_only.csv": (40, 2.0),
    "h06_utf16.csv": (40, 2.0),
    "h10_wide_header.csv": (2, None),
    "h11_vidur.csv": (40, 2.0),
    "h11_vllm_bench_detailed.json": (39, 2.0),
}


@pytest.mark.skipif(not CASES.is_dir(), reason="the small inputs are not here")
@pytest.mark.parametrize("name", GIVEN)
def test_the_given_files(name: str) -> None:
    """Small inputs and what is right for them."""
    expected = GIVEN[name]
    if isinstance(expected, str):
        run("--workload", CASES / name).refused(name, expected)
        return
    trace = read_trace(CASES / name)
    assert len(trace) == expected[0]
    if expected[1] is not None:
        assert 1.0 / trace.mean_gap_s == pytest.approx(expected[1], rel=0.03)
