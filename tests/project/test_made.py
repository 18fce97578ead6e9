"""Tables and figures of the pages are what their commands make: docs/tools/regenerate.py, and the README held to it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.pages import ROOT, markdown

TOOL = ROOT / "docs" / "tools" / "regenerate.py"
TABLE = re.compile(r"^\|---", re.M)
RUN = "python eval/compare.py --policies static,static:batch=auto --requests 300 --seeds 2"


def regenerate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The tool with these arguments."""
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True)


def page_with(folder: Path, about: str, body: str = "old\n") -> Path:
    """A page with one mark."""
    page = folder / "page.md"
    page.write_text(f"before\n\n<!-- made\n{about}\n-->\n{body}<!-- end of made -->\n\nafter\n", encoding="utf-8")
    return page


def test_the_readme_shows_what_its_commands_print() -> None:
    """Every table of the README stands below a mark, and is what the command of the mark prints today."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    outside = re.sub(r"<!-- made\n.*?<!-- end of made -->", "", text, flags=re.S)
    assert not TABLE.search(outside) and "±" not in "".join(re.findall(r"```text.*?```", outside, flags=re.S))
    done = regenerate("README.md", "--check", "--slow")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun python docs/tools/regenerate.py README.md"
    assert done.stdout.count("up to date") == text.count("<!-- made\n") >= 2


def test_the_marks_of_all_pages_can_be_read() -> None:
    """Each names a command that is a file of the project, and each ends."""
    done = regenerate("--list")
    assert done.returncode == 0, done.stderr
    scripts = re.findall(r": python (\S+)", done.stdout)
    assert len(scripts) == len(done.stdout.splitlines()) and all((ROOT / script).is_file() for script in scripts)
    pages = [page for page in markdown() if page == ROOT / "README.md" or page.is_relative_to(ROOT / "docs")]
    marks = sum(len(re.findall(r"^<!-- made$", page.read_text(encoding="utf-8"), flags=re.M)) for page in pages)
    assert len(scripts) == marks


def test_a_part_is_made_again_and_the_rest_stays(tmp_path: Path) -> None:
    """An old table is found by --check, which writes nothing, and is replaced without it; then it is up to date."""
    page = page_with(tmp_path, f"form: policies\ncommand: {RUN}\nchosen: true\nnames: {{static: plain}}")
    before = page.read_text(encoding="utf-8")
    assert regenerate(page, "--check").returncode == 1 and page.read_text(encoding="utf-8") == before
    assert regenerate(page).returncode == 0
    after = page.read_text(encoding="utf-8")
    head, body, tail = re.fullmatch(r"(.*?-->\n)(.*)(<!-- end.*)", after, flags=re.S).groups()  # type: ignore[union-attr]
    assert before.startswith(head) and before.endswith(tail)
    rows = body.splitlines()
    assert len(rows) == 4 and rows[0].startswith("| policy | SLO met % |") and rows[2].startswith("| plain |")
    assert re.match(r"\| `static:batch=auto` \(\d+\) \| ", rows[3])
    assert regenerate(page, "--check").returncode == 0


def test_a_row_is_a_variant_of_the_command(tmp_path: Path) -> None:
    """The best policy of every row is bold, the rate is the one that was simulated."""
    about = f"form: variants\ncommand: {RUN}\ntitle: at\ncolumns: [rate]\nrows:\n  a: --rate 1\n  b: --rate 3"
    page = page_with(tmp_path, about)
    assert regenerate(page).returncode == 0
    rows = page.read_text(encoding="utf-8").split("-->\n")[1].splitlines()
    assert rows[0] == "| at | requests/s | `static` | `static:batch=auto` |"
    assert rows[2].startswith("| a | 1.00 |") and rows[3].startswith("| b | 3.00 |") and "**" in rows[3]


def test_a_table_of_any_command(tmp_path: Path) -> None:
    """Some of its rows and columns; what the table does not have is refused."""
    about = f"form: table\ncommand: {RUN}\ntitle: Policies\nkeep: static\ncolumns: [policy, 'batch, mean']"
    page = page_with(tmp_path, about)
    assert regenerate(page).returncode == 0
    rows = page.read_text(encoding="utf-8").split("-->\n")[1].splitlines()
    assert rows[:2] == ["| policy | batch, mean |", "|---|---|"] and re.match(
        r"\| static \| [\d.]+ ± [\d.]+ \|", rows[2]
    )
    assert rows[3].startswith("<!--")
    other = about.replace("keep: static", "where: {policy: 'dyn.*'}").replace(
        "--policies static", "--policies dynamic,static"
    )
    page = page_with(tmp_path, other)
    assert regenerate(page).returncode == 0
    rows = page.read_text(encoding="utf-8").split("-->\n")[1].splitlines()
    assert rows[2].startswith("| dynamic |") and rows[3].startswith("<!--")
    assert regenerate(page_with(tmp_path, other.replace("policy: 'dyn", "x: 'dyn"))).returncode == 2
    for change, said in (("title: Policies", "title: X"), ("keep: static", "keep: x"), ("batch, mean", "x")):
        assert regenerate(page_with(tmp_path, about.replace(change, said))).returncode == 2


def test_what_is_slow_or_lacks_its_trace_is_left(tmp_path: Path) -> None:
    """It is named, and stays as it is."""
    for about in (f"command: {RUN}\nslow: 5", f"command: {RUN}\nneeds: no_such_trace.csv"):
        page = page_with(tmp_path, about)
        done = regenerate(page)
        assert done.returncode == 0 and "left as it is" in done.stdout and "\nold\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("form: policies", "no command"),
        ("command: python eval/compare.py\nfrom: x", "unknown from"),
        ("command: python eval/compare.py\nform: x", "unknown form x"),
        ("command: [", "no YAML"),
        ("command: rm -rf x", "begins with python"),
        ("command: python eval/compare.py --nonsense", "exit status 2"),
        (f"command: {RUN}\nuntil: nowhere", "0 paragraphs"),
        (f"command: {RUN}\nform: policies\ncolumns: [x]", "unknown column x"),
    ],
)
def test_a_wrong_mark_is_refused(about: str, said: str, tmp_path: Path) -> None:
    """In one line, with the place; the page stays as it is."""
    page = page_with(tmp_path, about)
    before = page.read_text(encoding="utf-8")
    done = regenerate(page)
    assert done.returncode == 2 and said in done.stderr and "page.md:3" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and page.read_text(encoding="utf-8") == before
