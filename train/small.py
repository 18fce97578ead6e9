"""Train the network for LLMSchedSmall-v0: ``python train/small.py --out policies/network/weights/network-small``.

The same network and the same evolution strategy as in train/search.py, on the system whose optimum is known.  The loss
is the mean latency of long runs.  How far from the optimum the result is:
``python eval/optimum.py --policies network:path=policies/network/weights/network-small``.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from train/
        sys.path[0] = str(Path(__file__).resolve().parents[1])
    from llmsched_env.commands.needs import need

    need("small.py", "cma")

from collections.abc import Sequence

import cma
import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.arguments import first_line
from llmsched.train.search import put_weights, searched_places
from llmsched.train.systems import TRAINING_SEED, ReusedSimulator
from llmsched.train.validation import network_policy
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.commands.process import run_and_exit, run_guarded
from llmsched_env.commands.terminal import say, show
from llmsched_env.envs.small import WORKLOAD, arrival_rate, simulation
from llmsched_env.files.writing import check_folder
from llmsched_env.workload.workload import Workload

HIDDEN = 1
"""Hidden units."""

SIGMA = 0.5
"""First step size of the search."""

POPULATION = 20
"""Weights tried in every generation."""


def mean_latency_s(simulator: ReusedSimulator, seed: int, requests: int, params: NDArray[np.float64]) -> float:
    """Mean latency (s) of one run with packed weights (P,)."""
    drawn = Workload(WORKLOAD, requests=requests, rate=arrival_rate(), predictor="oracle").draw(seed, "validation")
    rows = simulator.run(network_policy(), drawn, params)
    return float(np.mean(rows["completion"] - rows["arrival"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Train, save, print the cost; returns the exit code."""
    return run_guarded("small.py", run, argv)


def run(argv: Sequence[str]) -> int:
    """Train as the arguments ``argv`` say."""
    parser = OneLineParser(prog="small.py", description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("--out", default="runs/small/best", help="checkpoint to write (default runs/small/best)")
    parser.add_argument("--generations", type=int, default=150, help="generations (default 150)")
    parser.add_argument("--requests", type=int, default=8_000, help="requests in every run (default 8000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default 0)")
    options = parser.read(argv)
    for name, low, high in (("generations", 1, 10**6), ("requests", 1, 10**7), ("seed", 0, 2**31)):
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name} {getattr(options, name)} is not allowed: give a number from {low} to {high:,}.")
    try:
        check_folder(Path(options.out).parent, "--out")
    except ValueError as error:
        parser.error(str(error))
    simulator = ReusedSimulator(simulation(), options.requests)
    about = {"popsize": POPULATION, "seed": options.seed + 1, "verbose": -9}
    layout, places = LAYOUTS["batch"], searched_places(HIDDEN)
    zeros = layout.pack(layout.zeros(HIDDEN))
    search = cma.CMAEvolutionStrategy(np.zeros(len(places)), SIGMA, about)
    began = time.monotonic()
    for generation in range(options.generations):
        points, seed = search.ask(), TRAINING_SEED + generation  # every generation has new arrivals, the same for all
        losses = [mean_latency_s(simulator, seed, options.requests, put_weights(x, places, zeros)) for x in points]
        search.tell(points, losses)
        if (generation + 1) % 10 == 0:
            left_s = (time.monotonic() - began) / (generation + 1) * (options.generations - generation - 1)
            line = f"generation {generation + 1}: mean latency {np.mean(losses):.4f} s, {min(losses):.4f} s at best"
            say(f"{line}, {left_s:.0f} s left")
    command = f"python train/small.py --generations {options.generations} --requests {options.requests}"
    arrays = layout.unpack(put_weights(search.mean, places, zeros))
    checkpoint.save(options.out, arrays, {"command": f"{command} --seed {options.seed}", "system": "LLMSchedSmall-v0"})
    params = checkpoint.load(options.out).packed
    cost = arrival_rate() * np.mean([mean_latency_s(simulator, seed, options.requests, params) for seed in range(10)])
    show(f"{cost:.4f} requests in the system on 10 validation seeds")
    return 0


if __name__ == "__main__":
    run_and_exit(main)
