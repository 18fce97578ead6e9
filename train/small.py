"""Learn LLMSchedSmall-v0: ``python train/small.py --out policies/network/weights/network-small``.

The same network and the same evolution as train/search.py, on the system whose optimum is known: the cost is the mean
latency of long runs.  How far from the optimum it is, says
``python eval/optimum.py --policies network:path=policies/network/weights/network-small``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of train/

import argparse
from collections.abc import Sequence

import cma
import numpy as np
from numpy.typing import NDArray

from llmsched.policies.network import checkpoint
from llmsched.policies.network.layouts import LAYOUTS
from llmsched.train.search import put, searched
from llmsched.train.systems import TRAINING_SEED, World
from llmsched.train.validation import scheduler
from llmsched_env.envs.small import WORKLOAD, arrival_rate, simulation
from llmsched_env.workload.workload import Workload

HIDDEN, SIGMA, POPULATION = 1, 0.5, 20


def mean_latency_s(world: World, seed: int, requests: int, params: NDArray[np.float64]) -> float:
    """Mean latency of one run."""
    drawn = Workload(WORKLOAD, requests=requests, rate=arrival_rate(), predictor="oracle").draw(seed, "validation")
    rows = world.run(scheduler(), drawn, params)
    return float(np.mean(rows["completion"] - rows["arrival"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Learn, keep, say the cost; the exit code."""
    parser = argparse.ArgumentParser(prog="small.py", description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", default="runs/small/best", help="checkpoint to write (default runs/small/best)")
    parser.add_argument("--generations", type=int, default=150)
    parser.add_argument("--requests", type=int, default=8_000, help="in every run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    world = World(simulation(), options.requests)
    about = {"popsize": POPULATION, "seed": options.seed + 1, "verbose": -9}
    layout, places = LAYOUTS["batch"], searched(HIDDEN)
    zeros = layout.pack(layout.zeros(HIDDEN))
    search = cma.CMAEvolutionStrategy(np.zeros(len(places)), SIGMA, about)
    for generation in range(options.generations):
        points, seed = search.ask(), TRAINING_SEED + generation  # new arrivals in every generation, the same for all
        losses = [mean_latency_s(world, seed, options.requests, put(x, places, zeros)) for x in points]
        search.tell(points, losses)
        if (generation + 1) % 10 == 0:
            line = f"generation {generation + 1}: mean latency {np.mean(losses):.4f} s, {min(losses):.4f} s at best"
            print(line, file=sys.stderr)
    command = f"python train/small.py --generations {options.generations} --requests {options.requests}"
    arrays = layout.unpack(put(search.mean, places, zeros))
    checkpoint.save(options.out, arrays, {"command": f"{command} --seed {options.seed}", "system": "LLMSchedSmall-v0"})
    params = checkpoint.load(options.out).packed
    cost = arrival_rate() * np.mean([mean_latency_s(world, seed, options.requests, params) for seed in range(10)])
    print(f"{cost:.4f} requests in the system on 10 validation seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
