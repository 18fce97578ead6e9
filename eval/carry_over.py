"""Command: ``python eval/carry_over.py``; the work is in llmsched.eval.reality.carry_over.experiment."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from eval/
        sys.path[0] = str(Path(__file__).resolve().parents[1])

from llmsched.eval.reality.carry_over.experiment import EXPERIMENT
from llmsched_env.commands.process import run_and_exit

main = EXPERIMENT.main

if __name__ == "__main__":
    run_and_exit(main)
