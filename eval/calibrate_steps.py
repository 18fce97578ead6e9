"""Command: ``python eval/calibrate_steps.py``; the work is in llmsched.eval.reality.steps.command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from eval/
        sys.path[0] = str(Path(__file__).resolve().parents[1])

from llmsched.eval.reality.steps.command import main
from llmsched_env.commands.process import run_and_exit

if __name__ == "__main__":
    run_and_exit(main)
