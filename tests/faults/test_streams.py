"""Standard output and error that are closed, full, unread or ASCII; names that act on a terminal or a figure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmsched.eval.figures.powers import plain_power
from llmsched_env.files.showing import visible
from tests.faults.tools import run, run_process

RESULTS = {"cells.jsonl", "manifest.json", "results.csv", "summary.json"}

STREAMS = {  # redirections of the shell: (exit codes that are right, what standard error says)
    "a reader that goes away": ("| true; exit ${PIPESTATUS[0]}", {0, 141}, b""),
    "a closed output": (">&-", {2}, b"standard output cannot be written"),
    "a full output": (">/dev/full", {2}, b"standard output cannot be written"),
    "a closed error": ("2>&-", {0}, b""),
    "a full error": ("2>/dev/full", {0}, b""),
    "nothing open": ("<&- >&- 2>&-", {2}, b""),
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("kind", STREAMS)
def test_results_are_kept_whatever_the_streams_are(tmp_path: Path, kind: str) -> None:
    """No traceback, the right exit code, every file of --out."""
    redirection, codes, said = STREAMS[kind]
    ended = run_process(f"$COMPARE --out out {redirection}", folder=tmp_path)
    assert ended.returncode in codes and said in ended.stderr, ended
    assert b"Traceback" not in ended.stderr + ended.stdout and b"Exception" not in ended.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= RESULTS


def test_an_ascii_terminal_and_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """What cannot be shown is written as an escape, in the table, in the report and in the figures."""
    name = b"na\xffme\xc3\xa9$x_{$\x1b[31m.py"
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_text(
        "def mine(record, params, memory, rng):\n    return record.num_bins, 1\n"
    )
    command = "$COMPARE --policies ./na*.py:mine,static --out out --report page.html"
    command = command.replace("./na*.py:mine,static", '"$(ls -d ./na*.py):mine,static"')
    ended = run_process(command, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended
    assert b"\x1b" not in ended.stdout + ended.stderr and b"\\xff" in ended.stdout
    page = (tmp_path / "page.html").read_bytes()
    assert b"\x1b" not in page and "\\xffme\u00e9$x_{$" in page.decode()
    assert len(list((tmp_path / "out" / "figures").iterdir())) > 3


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Names in refusals, of traces in headings, of classes."""
    trace = tmp_path / "trace\x1b[2J\u202e.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},5,5\n" for i in range(40)))
    ended = run("--workload", trace)
    assert ended.code == 0 and "\x1b" not in ended.out and "\u202e" not in ended.out and "trace\\x1b[2J" in ended.out
    for words in (["--policies", "a\x1b[31mb"], ["--slo-classes", "a\x1b=1,e2el:9"], ["--workload", "no\x1b.csv"]):
        assert "\x1b" not in run(*words).refused()


def test_a_warning_during_a_run_leaves_standard_error_empty() -> None:
    """The interpreter remembers the filter under which it was caught, and at its end shows what that one shows."""
    code = (
        "import warnings\n"
        "from llmsched_env.commands.process import run_and_exit\n"
        "from llmsched_env.commands.terminal import show\n"
        "def main():\n"
        "    with warnings.catch_warnings(record=True):\n"
        "        warnings.simplefilter('always')\n"
        "        warnings.warn('noted')\n"
        "    show('result')\n"
        "    return 0\n"
        "run_and_exit(main)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "result\n", "")


def test_what_acts_is_written_as_an_escape() -> None:
    """Everything else stays, newlines and letters of all scripts too."""
    assert visible("a\x1b[31m\u202eb\udcff\x9b\x00") == "a\\x1b[31m\\u202eb\\xff\\x9b\\x00"
    assert visible("Größe 大きい ± ✓\n\tx") == "Größe 大きい ± ✓\n\tx"


def test_powers_are_labelled_without_markup() -> None:
    """As matplotlib writes them for logarithmic axes."""
    assert plain_power(r"$\mathdefault{10^{3}}$") == "10³"
    assert plain_power(r"$\mathdefault{-10^{-12}}$") == "-10⁻¹²"
    assert plain_power(r"$\mathdefault{2\times10^{4}}$") == "2x10⁴"
    assert plain_power("") == ""


@pytest.mark.figures
def test_dollar_signs_do_not_break_figures(tmp_path: Path) -> None:
    """An unfinished formula in the name of a policy and of a trace."""
    trace, policy = tmp_path / "a$\\frac{$.csv", tmp_path / "p$_{$q$.py"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},5,5\n" for i in range(40)))
    policy.write_text("def mine(record, params, memory, rng):\n    return record.num_bins, 1\n")
    ended = run("--workload", trace, "--policies", f"static,{policy}:mine", "--report", tmp_path / "x.html")
    assert ended.code == 0, ended
    assert "p$_{$q$.py:mine" in (tmp_path / "x.html").read_text() and "mathdefault" not in ended.out
    assert "mathdefault" not in (tmp_path / "x.html").read_text()


def test_figures_need_no_display(tmp_path: Path) -> None:
    """A backend of matplotlib that the user set and that does not exist changes nothing: figures go to files."""
    command = [sys.executable, "eval/compare.py", "--policies", "static", "--requests", "40", "--seeds", "1"]
    environment = {**os.environ, "MPLBACKEND": "nosuch"}
    run = subprocess.run(
        [*command, "--out", str(tmp_path / "o")],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "Traceback" not in run.stderr
    assert list((tmp_path / "o" / "figures").iterdir())


def test_numbers_of_threads_that_numba_cannot_take(tmp_path: Path) -> None:
    """Numba itself would end in a traceback at its import; one line, and the same answer."""
    ended = run_process("$COMPARE", NUMBA_NUM_THREADS="0")
    assert ended.returncode == 0 and ended.stdout == run_process("$COMPARE").stdout
    assert ended.stderr.decode().strip() == "NUMBA_NUM_THREADS=0 is below 1: it is ignored."


def test_a_removed_folder_is_named_as_the_trouble(tmp_path: Path) -> None:
    """The present folder was removed by another process: a relative name has no place any more."""
    folder = tmp_path / "gone"
    folder.mkdir()
    ended = run_process('rmdir "$PWD"; $COMPARE --out results', folder=folder)
    assert ended.returncode == 2
    assert b"the present folder was removed: change to another one." in ended.stderr
