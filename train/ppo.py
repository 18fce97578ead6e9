"""Train the learned scheduler: ``python train/ppo.py --out runs/first`` (``--resume`` goes on after a kill).

PPO of Stable-Baselines3, or MaskablePPO, on native lanes of many systems at once (train/courses.py), from the weights
that train/search.py found, from a checkpoint of your own, or from nothing.  The folder of ``--out`` holds all there is
to know: config.json (arguments, versions, seeds, git commit, threads), TensorBoard curves, progress.csv, resume.pt, and
best.npz + best.json, which ``network:path=FOLDER/best`` runs in every experiment.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout instead of train/

import argparse
import dataclasses
import json
import platform
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from llmsched.policies.network import checkpoint
from llmsched.train.callback import Keeper, restore
from llmsched.train.many_systems import Fleet, make_fleet
from llmsched.train.network import MaskableSchedulerPolicy, SchedulerPolicy
from llmsched.train.systems import train_courses
from llmsched.train.validation import runs_of

PROGRAM = "ppo.py"
HYPERPARAMS = Path(__file__).parent / "hyperparams" / "scheduler.toml"


@dataclass(frozen=True)
class Arguments:
    """What a training run is made of; every field is a flag, with dashes for underscores."""

    out: str = "runs/ppo"  # folder of the run
    algorithm: str = "ppo"  # or maskable
    start: str = "shipped"  # checkpoint to start from: shipped, none, or a path
    seed: int = 0  # of weights, actions and arrivals
    steps: int = 4_000_000  # decisions in all
    courses: int = 0  # only the first so many systems; 0: all
    lanes: int = 1  # of every system in every band of loads
    requests: int = 600  # in an episode
    rollout: int = 128  # decisions of every lane between two updates
    batch_size: int = 2048
    epochs: int = 3
    learning_rate: float = 2e-4
    clip: float = 0.1
    gae_lambda: float = 0.98
    entropy: float = 0.0
    critic_steps: int = 200_000  # decisions before the actor is touched
    hidden: int = 6  # hidden units of a scorer that starts from nothing
    temperature: float = 0.2  # scores of the start are divided by this, to explore around it
    save_every: int = 10  # rollouts between two states to resume from
    evaluate_every: int = 20  # rollouts between two evaluations
    evaluation_requests: int = 2_000  # in every validation run
    evaluation_seeds: int = 1
    threads: int = 1  # of torch; results depend on it, so it is kept


def parsed(argv: Sequence[str] | None) -> tuple[Arguments, bool]:
    """The arguments, flags before the file before defaults, and whether to resume; exit 2 with one line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--resume", action="store_true", help="go on in the folder of --out, with its arguments")
    parser.add_argument("--hyperparams", default=str(HYPERPARAMS), metavar="FILE", help="TOML of arguments")
    for field in dataclasses.fields(Arguments):
        kind = {"str": str, "int": int, "float": float}[str(field.type)]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=f"default {field.default!r}")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    resume, file = given.pop("resume"), Path(given.pop("hyperparams"))
    try:
        if resume:
            folder = Path(given.get("out", Arguments.out))
            kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))["arguments"]
            return checked(Arguments(**kept)), True
        return checked(Arguments(**{**tomllib.loads(file.read_text(encoding="utf-8")), **given})), False
    except (OSError, ValueError, TypeError, KeyError) as error:
        parser.exit(2, f"{PROGRAM}: error: {' '.join(str(error).split())}\n")


def checked(arguments: Arguments) -> Arguments:
    """The arguments themselves, or ``ValueError``."""
    if arguments.algorithm not in ("ppo", "maskable"):
        raise ValueError(f"algorithm={arguments.algorithm!r} is not known: choose ppo or maskable.")
    for name in ("steps", "lanes", "requests", "rollout", "batch_size", "epochs", "hidden", "threads", "save_every"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name}={getattr(arguments, name)} is not allowed: give a whole number of at least 1.")
    for name in ("learning_rate", "temperature"):
        if not getattr(arguments, name) > 0:
            raise ValueError(f"{name}={getattr(arguments, name)} is not allowed: give a number above 0.")
    return arguments


def about(arguments: Arguments, command: str) -> dict[str, Any]:
    """What has to be known to repeat the run."""
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    names = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numba", "numpy")
    return {
        "command": command,
        "arguments": dataclasses.asdict(arguments),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "git_commit": commit.stdout.strip() or None,
        "courses": [course.name for course in chosen(arguments)],
        "threads": arguments.threads,
    }


def chosen(arguments: Arguments) -> list[Any]:
    """The courses to train on."""
    return train_courses()[: arguments.courses or None]


def load_start(start: str) -> checkpoint.Checkpoint:
    """The checkpoint that ``--start`` names: the shipped one, or a path."""
    return checkpoint.load_shipped("batch") if start == "shipped" else checkpoint.load(start)


def starting_weights(arguments: Arguments) -> dict[str, Any] | None:
    """The arrays to start from, their scores divided by the temperature; None: from nothing."""
    if arguments.start == "none":
        return None
    found = dict(load_start(arguments.start).arrays)
    for name in ("out", "straight", "wait_out", "wait_straight", "wait_offset"):
        found[name] = found[name] / arguments.temperature
    return found


def made(arguments: Arguments, fleet: Fleet) -> OnPolicyAlgorithm:
    """The learner."""
    start = starting_weights(arguments)
    hidden = arguments.hidden if start is None else len(start["bias"])
    masked = arguments.algorithm == "maskable"
    about_policy = {"max_batch": chosen(arguments)[0].max_batch, "hidden": hidden}
    policy: Any = MaskableSchedulerPolicy if masked else SchedulerPolicy
    assert not masked or issubclass(policy, MaskableActorCriticPolicy)
    model: OnPolicyAlgorithm = (MaskablePPO if masked else PPO)(
        policy,
        fleet,
        learning_rate=arguments.learning_rate,
        n_steps=arguments.rollout,
        batch_size=arguments.batch_size,
        n_epochs=arguments.epochs,
        gamma=1.0,
        gae_lambda=arguments.gae_lambda,
        clip_range=arguments.clip,
        ent_coef=arguments.entropy,
        policy_kwargs=about_policy,
        seed=arguments.seed,
        device="cpu",
    )
    if start is not None:
        model.policy.scorer.load_arrays(start)
    return model


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit code."""
    arguments, resume = parsed(argv)
    words = list(sys.argv[1:] if argv is None else argv)
    folder = Path(arguments.out)
    torch.set_num_threads(arguments.threads)
    courses = chosen(arguments)
    if (folder / "config.json").exists() and not resume:
        print(f"{PROGRAM}: error: {folder} holds a run: give --resume, or another --out.", file=sys.stderr)
        return 2
    try:
        fleet = make_fleet(
            courses, arguments.lanes, arguments.requests, max(course.bins for course in courses) + 1, arguments.seed
        )
        model = made(arguments, fleet)
    except ValueError as error:
        print(f"{PROGRAM}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        document = about(arguments, " ".join(["python train/ppo.py", *words]))
        (folder / "config.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
    runs = runs_of(courses, range(arguments.evaluation_seeds), arguments.evaluation_requests)
    keeper = Keeper(folder, document, runs, arguments)
    if resume:
        restore(model, keeper, folder)
    try:
        left = arguments.steps - model.num_timesteps
        if left > 0:
            model.learn(left, callback=keeper, reset_num_timesteps=not resume)
        keeper.finish()
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; --resume goes on from the last state kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
