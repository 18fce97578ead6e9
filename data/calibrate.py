"""Command: ``python data/calibrate.py``; the work is in llmsched.eval.calibration.command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while Python still imports: leave without a traceback
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of data/

from llmsched.eval.calibration.command import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
