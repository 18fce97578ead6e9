"""Writes the log of a server, to try `analyze` on: ``python examples/server_log.py server.csv``.

The server is simulated: Llama-2-70B on four A100 as vLLM serves it, 300 requests.  The log has what a gateway knows of
each request: when it was sent, its tokens, when the first one came, and when it was done.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # from the checkout, not from examples/

import pandas as pd

from llmsched.policies import parse
from llmsched_env.config import Continuous, SimConfig
from llmsched_env.servers import parse_servers
from llmsched_env.simulation.simulator import simulate
from llmsched_env.workload.workload import Workload


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


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python examples/server_log.py FILE.csv")
    server_log().to_csv(sys.argv[1], index=False)
    print(f"300 requests in {sys.argv[1]}")
