"""Writes the log of a server, to try `analyze` on: ``python examples/server_log.py server.csv``.

The server is simulated: Llama-2-70B on four A100 as vLLM serves it, 300 requests.  The log has what a gateway knows of
each request: when it was sent, its tokens, when the first one came, and when it was done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # from the checkout, not from examples/

import pandas as pd

from llmsched.policies import parse
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import run_and_exit, run_guarded
from llmsched_env.commands.terminal import show
from llmsched_env.config import Continuous, SimConfig
from llmsched_env.files.writing import check_file, write_text
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload

PROGRAM = "server_log.py"


def server_log() -> pd.DataFrame:
    """A row per request, times in seconds since the first was sent."""
    config = SimConfig(
        servers=parse_servers("a100-80gb_llama2-70b_tp4", 1),
        engine="continuous",
        max_batch=64,
        continuous=Continuous(admission="prompt", prefill="chunked", token_budget=2048),
    )
    requests = Workload("azure-conv", requests=300, rate=1.6).draw(seed=1)
    ready = parse("static:batch=64").ready(config)
    rows = simulate(ready.config, requests, ready.decide, **ready.options).requests
    times = {
        "arrival_s": rows["arrival"],
        "ttft_s": rows["first_token"] - rows["arrival"],
        "e2e_s": rows["completion"] - rows["arrival"],
    }
    return pd.DataFrame({"prompt_tokens": rows["prompt"], "output_tokens": rows["output"], **times}).round(6)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the log to the file that ``argv`` names; the exit code."""
    return run_guarded(PROGRAM, write, argv)


def write(argv: Sequence[str]) -> int:
    """Write the log; the exit code."""
    parser = OneLineParser(prog=PROGRAM, description="Write the log of a simulated server.")
    parser.add_argument("file", type=Path, metavar="FILE.csv")
    file = parser.read(argv).file
    try:
        check_file(file, "FILE.csv")
    except ValueError as error:
        refuse(PROGRAM, str(error))
    write_text(file, server_log().to_csv(index=False))
    show(f"300 requests in {file}")
    return 0


if __name__ == "__main__":
    run_and_exit(main)
