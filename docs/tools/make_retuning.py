"""Writes the table of docs/results/retuning.md from the result file beside it.

python docs/tools/make_retuning.py                 writes the table
python docs/tools/make_retuning.py --check         says whether it is up to date (exit status 1: it is not)
python docs/tools/make_retuning.py --run FOLDER    retunes on every trace first (trace files in FOLDER, minutes each)
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from made.page import with_part, write_or_check

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "retuning.md"
RESULTS = PAGE.parent / "retuning" / "results.json"
BEGIN, END = "<!-- retuning -->\n", "<!-- end of retuning -->\n"

CASES = {  # trace: the words that name it ({} is the folder of the trace files), its rate and its target
    "Azure 2023, conversation, load 1.2": "--workload {}/azure_conv_2023.csv --load 1.2",
    "Azure 2023, conversation": "--workload {}/azure_conv_2023.csv --rate 12",
    "Mooncake, conversation": "--workload {}/mooncake_conv.csv --rate 4 --goodput e2el:15000",
    "Mooncake, synthetic": "--workload {}/mooncake_synthetic_hash.jsonl.gz --rate 6 --goodput e2el:15000",
    "Azure 2023, code (drawn)": "--workload azure-code --requests 10000 --rate 12",
}
GENERATIONS = 60
KEPT = ("retuned", "generations", "rows", "rate", "overdue_factors", "judged", "missed", "difference", "gain")


def words_of(case: str, folder: str) -> list[str]:
    """The arguments of train/retune.py, without --out."""
    ends = ["--minutes", "60", "--generations", str(GENERATIONS), "--jobs", "1"]
    return [*CASES[case].format(folder).split(), *ends]


def run_all(folder: str) -> None:
    """Retune on every trace, and keep what came out."""
    found: dict[str, Any] = {}
    RESULTS.parent.mkdir(exist_ok=True)
    for case in CASES:
        out = f"runs/retune/{case.replace(' ', '-').replace(',', '')}"
        command = [sys.executable, "train/retune.py", *words_of(case, folder), "--json", "--out", out]
        print(" ".join(command[1:]), file=sys.stderr, flush=True)
        text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        summary = json.loads(text)
        found[case] = {"options": " ".join(words_of(case, "TRACES"))} | {key: summary[key] for key in KEPT}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def spread(found: Mapping[str, float], digits: int) -> str:
    """A mean in %, with the half width of its interval."""
    return f"{100 * found['mean']:+.{digits}f} ± {100 * found['half']:.{digits}f}"


def table() -> str:
    """A row per trace."""
    heads = (
        "trace",
        "rows",
        "overdue factors",
        "judged",
        "generic, % missed",
        "retuned, % missed",
        "difference, points",
        "fewer misses, %",
        "kept",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for case, row in json.loads(RESULTS.read_text(encoding="utf-8")).items():
        generic, retuned = (f"{100 * share:.2f}" for share in row["missed"])
        factors = " and ".join(f"{x:g}" for x in row["overdue_factors"])
        change, gain = spread(row["difference"], 2), spread(row["gain"], 1)
        kept = f"**{row['judged']}**" if row["retuned"] else "generic"
        cells = (case, f"{row['rows']:,}", factors, row["judged"], generic, retuned, change, gain, kept)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the table, check it, or make the runs first; returns the exit code."""
    if arguments[:1] == ["--run"] and len(arguments) == 2:
        run_all(arguments[1])
    elif list(arguments) not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    return write_or_check(PAGE, with_part(PAGE, BEGIN, END, table()), list(arguments) == ["--check"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
