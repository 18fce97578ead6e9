"""Training steps per second, measured in a separate process, where a learner is installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys

from llmsched.eval.runs.machine import ROOT
from llmsched.eval.speed.table import SpeedRow

NAMES = ("CartPole-v1, PPO 64x64", "LLMSched-v0, PPO 64x64", "LLMSched-v0, MaskablePPO 128x128")


def measure(seconds: float) -> list[SpeedRow]:
    """Rows of train/speed.py; without figures, and with the reason, where its libraries are missing."""
    command = [sys.executable, "-m", "llmsched.train.speed", "--seconds", f"{seconds:g}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"llmsched.train.speed ended with {run.returncode}"
        return [SpeedRow("train", name, math.nan, "steps/s", note=reason) for name in NAMES]
    found = json.loads(run.stdout)
    anchor = found[0]["steps_per_s"]
    rows = [SpeedRow("train", found[0]["name"], anchor, "steps/s", note=found[0]["note"])]
    for row in found[1:]:
        rows.append(
            SpeedRow("train", row["name"], row["steps_per_s"], "steps/s", anchor, found[0]["name"], row["note"])
        )
    return rows
