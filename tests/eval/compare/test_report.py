"""The report page: everything in one file, well formed, and, where Chromium is, at work in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmsched.eval import compare
from llmsched.eval.figures import style
from llmsched.eval.report import tooltips
from llmsched.eval.report.page import page
from llmsched.eval.report.tables import Column, Table, csv_text, records, text
from llmsched.eval.runs.intervals import Interval

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ABOUT = {
    "command": ["python", "eval/x.py", "--policies", "a b"],
    "began": "2000-01-01T00:00:00+00:00",
    "seconds": 1.5,
    "git": {"commit": "abc", "modified": True},
    "versions": {"python": "3.11"},
    "machine": {"processor": "P", "cores": 2, "system": "S", "architecture": "A"},
}
TABLE = Table(
    "t",
    "A <table>",
    [Column("name", "name"), Column("value", "value", "s", 1)],
    [
        {"name": "b & c", "value": Interval(10.0, 1.0)},
        {"name": "a", "value": 9.0},
        {"name": "d", "value": math.nan},
        {"name": "c", "value": -3.0},
    ],
    "Note.",
)
VOID = {"meta", "br", "path", "use", "link"}


class Shape(HTMLParser):
    """The tags of a page: whether they close in order, what is loaded, the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        own = dict(attributes)
        self.loaded += [v for k, v in own.items() if k in ("src", "href", "xlink:href") and v]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a small comparison."""
    pytest.importorskip("matplotlib")
    path = tmp_path_factory.mktemp("report") / "page.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *_, **__: None)
        assert compare.main(["--requests", "300", "--seeds", "2", "--report", str(path)]) == 0
    return path


def test_the_page_is_whole_and_loads_nothing(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    shape = Shape(text)
    assert shape.open == []
    assert all(link.startswith(("#", "data:")) for link in shape.loaded)
    assert shape.tags.count("table") == 3 and shape.tags.count("figure") == 5 == shape.tags.count("svg")
    assert "url(http" not in text and "@import" not in text and "fetch(" not in text
    assert "$" not in re.sub(r"<script>.*</script>", "", text, flags=re.S)  # every part was filled in
    assert len(text) < 800_000


def test_the_page_says_what_was_done(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert f"python eval/compare.py --requests 300 --seeds 2 --report {report}" in text
    for said in ("azure-conv at 8 requests/s", "= 8 GPUs", "difference", "numba", "seed"):
        assert said in text


def test_every_figure_speaks_about_points_inside_it(report: Path) -> None:
    found = re.findall(r"<script type=application/json>(.*?)</script>", report.read_text(encoding="utf-8"), flags=re.S)
    assert len(found) == 5
    for points_text in found:
        points = json.loads(points_text)
        assert points and all(0 <= p["x"] <= 1 and 0 <= p["y"] <= 1 and "\n" in p["text"] for p in points)


def test_what_is_typed_cannot_become_markup() -> None:
    text = page("a <b> title\nline <script>", [TABLE], {}, ["remark <i>"], ABOUT)
    assert "<script>\n" in text and text.count("<script>") == 1  # the page's own
    for escaped in ("a &lt;b&gt; title", "line &lt;script&gt;", "A &lt;table&gt;", "b &amp; c", "remark &lt;i&gt;"):
        assert escaped in text
    assert "python eval/x.py --policies &#x27;a b&#x27;" in text and "abc with changes" in text
    assert '<td data-value="10.0">10.0 ± 1.0</td>' in text and '<td data-value="nan">-</td>' in text


def test_points_are_where_the_picture_has_them() -> None:
    pytest.importorskip("matplotlib")
    drawn = style.draw_all({"x": _corners})["x"]
    drawn.canvas.draw()
    low, high, *line = tooltips.points(drawn)
    assert (low["text"], high["text"]) == ("low", "high")
    assert (low["x"], low["y"]) == pytest.approx((0.1, 0.8)) and (high["x"], high["y"]) == pytest.approx((0.9, 0.2))
    assert [point["text"] for point in line[:1]] == ["line\nx: 0\ny: 1"]
    assert len(line) == 101  # 301 points, every third


def _corners():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4))
    axes = figure.add_axes((0.1, 0.2, 0.8, 0.6))
    axes.set(xlim=(0, 10), ylim=(0, 1), xlabel="x (unit)", ylabel="y")
    tooltips.mark(axes, 0, 0, "low")
    tooltips.mark(axes, 10, 1, "high")
    axes.plot([i / 30 for i in range(301)], [1.0] * 301, label="line")
    axes.plot([1, 2], [0, 0], label="_silent")
    axes.plot([1, 2], [0, 0], label="marked", gid=tooltips.MARKED)
    return figure


PROBE = """
<script>
const out = {};
const table = document.querySelector("table");
const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].textContent);
const head = (n) => table.tHead.rows[0].cells[n].querySelector("button");
head(1).click(); out.falling = column(1);
head(1).click(); out.rising = column(1);
head(0).click(); out.words = column(0);
const figure = document.querySelector("figure");
if (figure) {
  const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
  const point = JSON.parse(figure.querySelector("script").textContent)[0];
  const at = (dx) => figure.dispatchEvent(new MouseEvent("mousemove", {
    clientX: box.left + point.x * box.width + dx, clientY: box.top + point.y * box.height, bubbles: true }));
  const tip = figure.querySelector(".tip");
  at(3); out.tip = tip.textContent; out.wanted = point.text; out.shown = !tip.hidden;
  const inside = tip.getBoundingClientRect(), frame = figure.getBoundingClientRect();
  out.inside = inside.left >= frame.left && inside.right <= frame.right;
  at(-5000); out.gone = tip.hidden;
  out.size = [box.width, box.height];
  out.wide = document.documentElement.scrollWidth <= innerWidth;
}
document.title = "probe " + JSON.stringify(out);
</script>
"""


def in_browser(text: str, folder: Path, more: Sequence[str] = ()) -> dict:
    """What the probe finds in the page, in headless Chromium without a network."""
    assert CHROMIUM is not None
    path = folder / "probed.html"
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [
        CHROMIUM,
        *flags,
        *more,
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1100,900",
        path.as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>probe (.*?)</title>", run.stdout, flags=re.S)
    assert found, run.stderr[-2000:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
def test_tables_sort_in_a_browser(tmp_path: Path) -> None:
    found = in_browser(page("title", [TABLE], {}, [], ABOUT), tmp_path)
    assert found["falling"] == ["10.0 ± 1.0", "9.0", "-3.0", "-"]
    assert found["rising"] == ["-3.0", "9.0", "10.0 ± 1.0", "-"]
    assert found["words"] == ["a", "b & c", "c", "d"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
def test_figures_answer_the_mouse_in_a_browser(report: Path, tmp_path: Path) -> None:
    found = in_browser(report.read_text(encoding="utf-8"), tmp_path)
    assert found["shown"] and found["tip"] == found["wanted"] and found["inside"] and found["gone"]
    assert found["size"][0] > 600 and found["size"][1] > 100 and found["wide"]


PHONE = r"""
<script>
const frame = document.createElement("iframe");
frame.style.cssText = "width: 390px; height: 800px; border: 0";
frame.src = "WHERE";
frame.onload = () => {
  const inside = frame.contentDocument, view = frame.contentWindow;
  const linear = (value) => (value <= 10 ? value / 3295 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = (text) => {
    const [red, green, blue] = text.match(/[\d.]+/g).map(Number);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = view.getComputedStyle(each).backgroundColor;
      if (!/, 0\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let least = 99;
  for (const element of inside.querySelectorAll("h1, h2, p, td, th button, small, li, dt, dd, pre, figcaption")) {
    const pair = [light(view.getComputedStyle(element).color), light(behind(element))];
    least = Math.min(least, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
  }
  const dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  document.title = "probe " + JSON.stringify({ wide: inside.documentElement.scrollWidth, contrast: least, dark });
};
document.body.append(frame);
</script>
"""
"""Shows a page in a frame as wide as a phone; finds its width, and the least contrast of a text with what is behind."""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_on_a_phone(report: Path, tmp_path: Path, dark: bool) -> None:
    """At 390 pixels nothing is wider than the screen; by day and by night every text has a contrast of 4.5 or more."""
    (tmp_path / "shown.html").write_text(report.read_text(encoding="utf-8"), encoding="utf-8")
    outer = f"<!doctype html><html><body>{PHONE.replace('WHERE', (tmp_path / 'shown.html').as_uri())}</body></html>"
    flags = ["--allow-file-access-from-files", *(["--blink-settings=preferredColorScheme=0"] * dark)]
    found = in_browser(outer, tmp_path, flags)
    assert found["wide"] <= 390 and found["contrast"] >= 4.5 and found["dark"] == dark


def test_figures_say_what_they_show(report: Path) -> None:
    """A sentence below each; the scenario stands once, above the tables, not in every picture."""
    text = report.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert len(captions) == 5 == len(set(captions)) and all(caption.endswith(".") for caption in captions)
    assert len(re.findall("azure-conv at 2.5 requests/s", text)) <= 2  # the title of the page, and its heading


def test_tables_in_text_csv_and_records():
    columns = [Column("name", "name"), Column("a", "share", "%", 1, 100.0), Column("b", "gap", "s", 2, signed=True)]
    rows: list[dict[str, Any]] = [
        {"name": "x", "a": Interval(0.5, 0.125), "b": Interval(-0.001, None)},
        {"name": "long name", "a": math.nan, "b": None},
        {"name": "z", "a": 12.3456, "b": math.inf},
    ]
    table = Table("t", "Title", columns, rows, "Note.")
    assert text(table).splitlines() == [
        "Title",
        "name             share    gap",
        "                     %      s",
        "-----------------------------",
        "x          50.0 ± 12.5  +0.00",
        "long name            -      -",
        "z              1,234.6    inf",
        "Note.",
    ]
    assert records(table)[0] == {"name": "x", "a": 0.5, "a_ci95": 0.125, "b": -0.001, "b_ci95": None}
    assert csv_text(records(table)).splitlines()[:2] == ["name,a,a_ci95,b,b_ci95", "x,0.5,0.125,-0.001,"]
