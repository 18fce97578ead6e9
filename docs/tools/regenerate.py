"""Makes every table and figure of the pages again: each stands below a mark that names its command.

python docs/tools/regenerate.py                     all pages, but what takes minutes
python docs/tools/regenerate.py README.md           one page; --slow: also what takes minutes
python docs/tools/regenerate.py --check [PAGE...]   writes nothing; exit status 1 where something is old
python docs/tools/regenerate.py --list              the marks of all pages

Traces that are no part of the project are looked for in the folder --traces.  CONTRIBUTING.md shows a mark.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]

from made.commands import CommandError, Commands  # noqa: E402  the checkout is not installed
from made.marks import Mark, MarkError, read_marks, replace_bodies  # noqa: E402
from made.tables import policies, table, variants  # noqa: E402

DIFFERENT_PIXELS = 0.002
"""Share of pixels of a figure that may differ: another version of matplotlib draws letters a little differently."""


def pages() -> list[Path]:
    """The pages of the project that have marks."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if read_marks(page)]


def paragraphs(output: str, mark: Mark) -> str:
    """What a mark shows of an output: all of it, or what stands before a paragraph."""
    parts = re.split(r"\n\n+", output.rstrip("\n"))
    places = [place for place, part in enumerate(parts) if mark.until and part.startswith(mark.until)]
    if mark.until and not places:
        raise CommandError(f"0 paragraphs of the output begin with {mark.until!r}")
    return "\n\n".join(parts[: places[0]] if places else parts)


def picture(page: Path, mark: Mark) -> Path:
    """The file that the picture below a mark shows."""
    link = re.search(r"!\[[^\]]*\]\(([^)]+)\)", mark.body)
    if link is None:
        raise MarkError(f"{page.name}:{mark.line}: a mark of the form figure needs a picture below it")
    return page.parent / link[1]


def same_picture(path: Path, drawn: bytes, tolerated: float) -> bool:
    """Whether a file shows what was drawn, but for a share of the pixels."""
    import matplotlib.image
    import numpy as np

    if not path.is_file():
        return False
    old, new = matplotlib.image.imread(path), matplotlib.image.imread(io.BytesIO(drawn))
    least = 0.2 if tolerated else 0.0
    return old.shape == new.shape and float(np.mean(np.abs(old - new).max(axis=-1) > least)) <= tolerated


def fresh_body(page: Path, mark: Mark, commands: Commands, *, write: bool) -> str:
    """What belongs below the mark; of a figure also its file, written where it differs and ``write`` is set."""
    if mark.form == "figure":
        drawn, path = commands.figure(mark.command, mark.title), picture(page, mark)
        if same_picture(path, drawn, 0.0 if write else DIFFERENT_PIXELS):
            return mark.body
        if write:
            path.write_bytes(drawn)
        return mark.body if write else f"{mark.body}{path.name} is old\n"
    if mark.form == "policies":
        return policies(mark, commands)
    if mark.form == "variants":
        return variants(mark, commands)
    if mark.form == "table":
        return table(mark, commands)
    return f"```text\n{paragraphs(commands.output(mark.command), mark)}\n```\n"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("pages", nargs="*", type=Path, help="pages (default: all that have marks)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where something is old")
    parser.add_argument("--slow", action="store_true", help="also what takes minutes")
    parser.add_argument("--list", action="store_true", help="name the marks and stop")
    parser.add_argument("--no-figures", action="store_true", help="tables and outputs only")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: the cores of this machine)")
    parser.add_argument(
        "--traces", type=Path, default=os.environ.get("LLMSCHED_TRACES"), help="folder of traces that marks need"
    )
    return parser.parse_args(arguments)


def reason_to_leave(mark: Mark, options: argparse.Namespace, commands: Commands) -> str:
    """Why a mark is left as it is; empty: it is not."""
    if mark.slow and not options.slow:
        return f"takes about {mark.slow:g} minutes: --slow"
    if mark.form == "figure" and options.no_figures:
        return "a figure"
    return f"needs {mark.needs}: --traces FOLDER" if commands.missing(mark.needs) else ""


def one_page(page: Path, options: argparse.Namespace, commands: Commands) -> int:
    """Make one page again; the number of parts that were old."""
    old, before = 0, page.read_text(encoding="utf-8")

    def body(mark: Mark) -> str:
        """What belongs below a mark."""
        nonlocal old
        where = f"{page.relative_to(ROOT) if page.is_relative_to(ROOT) else page}:{mark.line}"
        if reason := reason_to_leave(mark, options, commands):
            print(f"{where}: left as it is ({reason})", flush=True)
            return mark.body
        began = time.monotonic()
        try:
            text = fresh_body(page, mark, commands, write=not options.check)
        except CommandError as error:
            raise CommandError(f"{where}: {error}") from None
        state = "up to date" if text == mark.body else "old" if options.check else "made again"
        old += text != mark.body
        print(f"{where}: {state}, {time.monotonic() - began:.0f} s", flush=True)
        return text

    after = replace_bodies(page, body)
    if after != before and not options.check:
        page.write_text(after, encoding="utf-8")
    return old


def main(arguments: list[str]) -> int:
    """Make the pages again, or compare them."""
    options = parse(arguments)
    commands = Commands(Path(options.traces).resolve() if options.traces else None, options.jobs)
    try:
        chosen = [page.resolve() for page in options.pages] or pages()
        if options.list:
            for page in chosen:
                for mark in read_marks(page):
                    print(f"{page.relative_to(ROOT)}:{mark.line}: {mark.form}: {mark.command}")
            return 0
        old = sum(one_page(page, options, commands) for page in chosen)
    except (MarkError, CommandError, OSError) as error:
        print(f"regenerate.py: {error}", file=sys.stderr)
        return 2
    return 1 if options.check and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
