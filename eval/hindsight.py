"""Command: ``python eval/hindsight.py``; the experiment is llmsched.eval.experiments.hindsight."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of eval/, whose names are its own

from llmsched.eval.cli.command import run_and_exit
from llmsched.eval.experiments.hindsight import EXPERIMENT

main = EXPERIMENT.main

if __name__ == "__main__":
    run_and_exit(main)
