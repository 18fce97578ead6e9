"""Training steps per CPU-second of Stable-Baselines3's PPO, on LLMSched-v0 and on CartPole-v1.

``python -m llmsched.train.speed`` prints JSON, a list of rows {name, steps_per_s, note}.  Where a package is missing,
it names it on stderr and exits with 3.  `make bench` shows the rows beside its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

LANES, STEPS, BATCH, EPOCHS = 256, 64, 4096, 4
NOT_INSTALLED = 3


def steps_per_s(model: Any, seconds: float) -> float:
    """Environment steps per CPU-second, learning included, over at least ``seconds`` after a warm-up."""
    rollout = LANES * STEPS
    model.learn(rollout)
    done, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        model.learn(rollout, reset_num_timesteps=False)
        done += rollout
    return done / (time.process_time() - began)


def measure(seconds: float, threads: int) -> list[dict[str, Any]]:
    """A row {name, steps_per_s, note} for every learner and environment."""
    import torch
    from sb3_contrib import MaskablePPO
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    from llmsched.train.sb3_vec_env import make_sb3_vec_env

    torch.set_num_threads(threads)
    about: dict[str, Any] = {"n_steps": STEPS, "batch_size": BATCH, "n_epochs": EPOCHS, "device": "cpu", "seed": 0}
    wide = {"policy_kwargs": {"net_arch": [128, 128]}}
    native, each = f"{LANES} native lanes", f"{LANES} scalar environments in a DummyVecEnv"
    cases: list[tuple[str, str, Callable[[], Any]]] = [
        ("CartPole-v1, PPO 64x64", each, lambda: PPO("MlpPolicy", make_vec_env("CartPole-v1", LANES), **about)),
        ("LLMSched-v0, PPO 64x64", native, lambda: PPO("MlpPolicy", make_sb3_vec_env(LANES, threads=threads), **about)),
        (
            "LLMSched-v0, MaskablePPO 128x128",
            native,
            lambda: MaskablePPO("MlpPolicy", make_sb3_vec_env(LANES, threads=threads), **about, **wide),
        ),
    ]
    rows = []
    for name, note, make in cases:
        print(f"llmsched.train.speed: {name} ...", file=sys.stderr, flush=True)
        note = f"{note}; {EPOCHS} epochs of batches of {BATCH}, " + (
            "one thread" if threads == 1 else f"{threads} threads"
        )
        rows.append({"name": name, "steps_per_s": steps_per_s(make(), seconds), "note": note})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m llmsched.train.speed", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=10.0, help="least CPU time of every row (default 10)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and of the lanes (default 1)")
    options = parser.parse_args(argv)
    if not options.seconds > 0 or options.threads < 1:
        parser.error("--seconds must be above 0, --threads at least 1.")
    try:
        rows = measure(options.seconds, options.threads)
    except ImportError as error:
        print(
            f"{error.name or error} is not installed: pip install torch stable-baselines3 sb3-contrib", file=sys.stderr
        )
        return NOT_INSTALLED
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
