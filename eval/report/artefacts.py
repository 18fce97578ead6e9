"""The files that an experiment leaves: results.csv, summary.json, manifest.json."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from llmsched.eval.runs.machine import git_state, processor
from llmsched.eval.runs.outcome import Outcome
from llmsched_env.config import SimConfig
from llmsched_env.files.writing import append_bytes, make_folder, write_text
from llmsched_env.simulation.metrics import keys_of

PACKAGES = ("llmsched", "gymnasium", "numba", "numpy", "scipy", "pandas", "matplotlib")


class ResultsFile:
    """The file results.csv of a comparison, a row per policy and seed: appended as runs finish, sorted at the end."""

    def __init__(self, path: Path, config: SimConfig) -> None:
        self._path = path
        self._columns = ["policy", "seed", *(key for key in keys_of(config) if not key.startswith("per_"))]
        bins = range(config.queueing.num_bins)
        self._columns += [f"bin{k}_{name}" for k in bins for name in ("submitted", "misses")]
        if len(config.slos) > 1:
            names = ("submitted", "misses")
            self._columns += [f"class_{slo.name}_{name}" for slo in config.slos for name in names]
        self._begun = False

    def append(self, outcome: Outcome) -> None:
        """Add a run to the file at once: it stays there when the command is interrupted."""
        text = io.StringIO()
        self._writer(text).writerow(result_row(outcome))
        if not self._begun:  # not earlier: what was refused leaves the rows of before
            self._write([])
        append_bytes(self._path, text.getvalue().encode())

    def finish(self, outcomes: Sequence[Outcome], policies: Sequence[str]) -> None:
        """Rewrite the file by policy and seed."""
        place = {policy: row for row, policy in enumerate(policies)}
        self._write(sorted(outcomes, key=lambda outcome: (place[outcome.policy], outcome.seed)))

    def _writer(self, file: io.StringIO) -> csv.DictWriter:
        return csv.DictWriter(file, self._columns, lineterminator="\n")

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        self._begun = True
        make_folder(self._path.parent)
        text = io.StringIO()
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(result_row(outcome) for outcome in outcomes)
        write_text(self._path, text.getvalue())


def result_row(outcome: Outcome) -> dict[str, Any]:
    """A run as a row of results.csv: policy, seed, metrics.KEYS, the bins as ``bin0_submitted`` and so on."""
    row: dict[str, Any] = {"policy": outcome.policy, "seed": outcome.seed}
    for key, value in outcome.summary.items():
        if key == "per_bin":
            for entry in value:
                row |= {f"bin{entry['bin']}_{name}": entry[name] for name in ("submitted", "misses")}
        elif key == "per_class":
            for entry in value if len(value) > 1 else ():
                row |= {f"class_{entry['class']}_{name}": entry[name] for name in ("submitted", "misses")}
        else:
            row[key] = "" if isinstance(value, float) and math.isnan(value) else value
    return row


def as_json(value: Any) -> str:
    """JSON indented by two spaces; an undefined number (NaN) is null."""
    return json.dumps(_defined(value), indent=2, allow_nan=False)


def _defined(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_defined(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def manifest(command: Sequence[str], seeds: Sequence[int], began: str, seconds: float) -> dict[str, Any]:
    """How the results came about: command, versions, seeds, git commit, machine; ``began`` in ISO form."""
    return {
        "command": list(command),
        "began": began,
        "seconds": round(seconds, 3),
        "seeds": list(seeds),
        "git": git_state(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
