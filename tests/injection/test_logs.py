"""Damaged logs of servers and benchmarks, in every format that eval/analyze.py reads: logs, or one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmsched.eval.analysis.reading import choose_run, read_logs
from tests.eval.analysis.test_log_formats import FILES
from tests.injection.test_readers import LONGEST_S, at_most
from tests.injection.tools import TRIED, damaged, replaced


def copies_of(text: str) -> list[tuple[object, bytes]]:
    """By bytes; a JSON document by its fields, JSON lines by those of the second."""
    found: list[tuple[object, bytes]] = [pair for seed in range(2) for pair in damaged(text.encode(), seed)]
    lines = text.strip().split("\n")
    if text[0] in "{[" and len(lines) == 1:
        found += [(about, json.dumps(changed).encode()) for about, changed in replaced(json.loads(text))]
    elif text[0] == "{":
        for about, changed in replaced(json.loads(lines[1])):
            found.append((about, "\n".join([lines[0], json.dumps(changed), *lines[2:]]).encode()))
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_logs(tmp_path: Path, name: str) -> None:
    """Nothing but ``ValueError``, which names the file; a log that is read has times that can be simulated."""
    path = tmp_path / name
    for about, content in copies_of(FILES[name]()):
        path.write_bytes(content)
        try:
            with at_most(LONGEST_S):
                choose_run(path, read_logs(path, "s"), None).run()
        except ValueError as error:
            assert len(" ".join(str(error).split())) < 2000, about
        except Exception as error:
            raise AssertionError((about, error)) from error
        TRIED[f"damaged logs ({name})"] += 1
