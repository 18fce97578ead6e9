"""Train the network of the engine `batch` with PPO: ``python train/ppo.py --out runs/first``.

PPO or MaskablePPO of Stable-Baselines3, on native lanes of many systems at once (train/systems.py).  It starts from
the shipped weights, which an evolution strategy found (train/search.py), from a checkpoint, or from nothing.
``--resume --unpickle`` continues a run that was stopped: the state of Stable-Baselines3 is a pickle, which runs what
is in it.  The folder of ``--out`` holds all there is to know: config.json (arguments, versions, seeds, git commit,
threads), TensorBoard curves, progress.csv, resume.pt, and best.npz with best.json, which ``network:path=FOLDER/best``
runs in every experiment.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: exit without a traceback
    if not __package__:  # run as a script: import from the checkout, not from train/
        sys.path[0] = str(Path(__file__).resolve().parents[1])
    from llmsched_env.commands.needs import need

    need("ppo.py", "torch", "stable_baselines3", "sb3_contrib", "tensorboard")

import dataclasses
import json
import math
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
from llmsched.train.arguments import add_flags, add_resume, first_line, given_values, setting
from llmsched.train.callback import STATE, TrainingCallback, restore
from llmsched.train.many_systems import ManySystems, make_many_systems
from llmsched.train.network import MaskableSchedulerPolicy, SchedulerPolicy
from llmsched.train.systems import TrainingSystem, training_systems
from llmsched.train.validation import make_runs
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import INTERRUPTED, run_and_exit, run_guarded, was_interrupted
from llmsched_env.commands.terminal import say
from llmsched_env.files.reading import read_bytes, read_json
from llmsched_env.files.writing import check_folder, make_folder, write_text
from llmsched_env.options.suggest import did_you_mean

PROGRAM = "ppo.py"
MOST_BYTES = 2**20
"""Most bytes of a file of hyperparameters."""

HYPERPARAMS = Path(__file__).parent / "hyperparams" / "scheduler.toml"

OUTPUTS = ("out", "straight", "wait_out", "wait_straight", "wait_offset")
"""Arrays of the network that a temperature divides: those that the scores are linear in."""


COUNTS = (
    *("steps", "lanes", "requests", "rollout", "batch_size", "epochs", "hidden", "threads"),
    *("save_every", "evaluate_every", "evaluation_requests", "evaluation_seeds"),
)
"""Arguments that are whole numbers of at least 1."""

POSITIVE, SHARES = ("learning_rate", "clip", "temperature"), ("gae_lambda", "entropy")
"""Arguments that are numbers above 0, and from 0 to 1."""

MOST = 2**31 - 1
"""The largest whole number of any argument: torch takes no larger seed everywhere."""


@dataclass(frozen=True)
class PPOArguments:
    """The arguments of a training run; every field is a flag."""

    out: str = setting("runs/ppo", "folder of the run")
    algorithm: str = setting("ppo", "ppo or maskable")
    start: str = setting("shipped", "weights to start from: shipped, none, or a checkpoint")
    seed: int = setting(0, "seed of weights, actions and arrivals")
    steps: int = setting(4_000_000, "decisions in all")
    systems: int = setting(0, "train on the first N systems only; 0: on all")
    lanes: int = setting(1, "lanes of every system in every band of loads")
    requests: int = setting(600, "requests in an episode")
    rollout: int = setting(128, "decisions of every lane between two updates")
    batch_size: int = setting(2048, "decisions in a batch of an update")
    epochs: int = setting(3, "passes over the decisions in an update")
    learning_rate: float = setting(2e-4, "learning rate")
    clip: float = setting(0.1, "clip range of PPO")
    gae_lambda: float = setting(0.98, "lambda of generalised advantage estimation")
    entropy: float = setting(0.0, "weight of the entropy bonus")
    critic_steps: int = setting(200_000, "decisions during which only the critic learns")
    hidden: int = setting(6, "hidden units of a network that starts from nothing")
    temperature: float = setting(0.2, "the scores at the start are divided by it; a larger one explores more")
    save_every: int = setting(10, "rollouts between two states to resume from")
    evaluate_every: int = setting(20, "rollouts between two evaluations")
    evaluation_requests: int = setting(2_000, "requests in every validation run")
    evaluation_seeds: int = setting(1, "arrival seeds of every validation run")
    threads: int = setting(1, "threads of torch; results depend on it")


def parse_arguments(argv: Sequence[str]) -> tuple[PPOArguments, bool]:
    """(arguments, whether to resume); flags come before the TOML file, the file before defaults.

    Exit 2 with one line where something is not allowed.
    """
    parser = OneLineParser(prog=PROGRAM, description=first_line(__doc__), allow_abbrev=False)
    add_resume(parser)
    text = (
        f"allow --resume to unpickle {STATE}, which runs whatever is in it: only for a folder that this program wrote"
    )
    parser.add_argument("--unpickle", action="store_true", help=text)
    parser.add_argument("--hyperparams", default=str(HYPERPARAMS), metavar="FILE", help="TOML file of arguments")
    add_flags(parser, PPOArguments)
    given = given_values(parser.read(argv))
    resume, file, unpickle = given.pop("resume"), Path(given.pop("hyperparams")), given.pop("unpickle")
    if resume and not unpickle:
        parser.error(
            f"--resume reads {STATE} by unpickling it, which runs whatever is in it: give --unpickle too, for "
            f"a folder that this program wrote and nobody else could write to."
        )
    where = Path(given.get("out", PPOArguments().out)) / "config.json" if resume else file
    try:
        if resume:
            return arguments_of(read_json(where)["arguments"]), True
        values = {**tomllib.loads(read_bytes(file, MOST_BYTES).decode("utf-8")), **given}
        return arguments_of(values), False
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        parser.error(
            f"{where}: no {error}." if isinstance(error, KeyError) else f"{error} (a flag, or a line of {where})"
        )


def arguments_of(values: Any) -> PPOArguments:
    """The arguments with ``values`` by name, checked; ``ValueError`` says what is not allowed."""
    if not isinstance(values, dict):
        raise ValueError(f"{type(values).__name__} instead of arguments by name.")
    known = [field.name for field in dataclasses.fields(PPOArguments)]
    for name in values:
        if name not in known:
            raise ValueError(f"{name!r} is not an argument.{did_you_mean(name, known)}")
    return check_arguments(PPOArguments(**values))


def check_arguments(arguments: PPOArguments) -> PPOArguments:
    """The arguments themselves, or ``ValueError``."""
    if arguments.algorithm not in ("ppo", "maskable"):
        raise ValueError(f"algorithm={arguments.algorithm!r} is not known: choose ppo or maskable.")
    for name in ("out", "start"):
        value = getattr(arguments, name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name}={value!r} is not allowed: give a text.")
    for name in COUNTS:
        _check_whole(name, getattr(arguments, name), 1)
    for name in ("seed", "systems", "critic_steps"):
        _check_whole(name, getattr(arguments, name), 0)
    for name in POSITIVE:
        value = getattr(arguments, name)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} is not allowed: give a number above 0.")
    for name in SHARES:
        value = getattr(arguments, name)
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"{name}={value!r} is not allowed: give a number from 0 to 1.")
    return arguments


def _check_whole(name: str, value: Any, least: int) -> None:
    if type(value) is not int or not least <= value <= MOST:
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number from {least} to {MOST}.")


def describe_run(arguments: PPOArguments, command: str) -> dict[str, Any]:
    """All that has to be known to repeat the run, ready for JSON."""
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    names = ("torch", "stable-baselines3", "sb3-contrib", "gymnasium", "numba", "numpy")
    return {
        "command": command,
        "arguments": dataclasses.asdict(arguments),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "git_commit": commit.stdout.strip() or None,
        "systems": [system.name for system in select_systems(arguments)],
        "threads": arguments.threads,
    }


def select_systems(arguments: PPOArguments) -> list[TrainingSystem]:
    """The systems to train on."""
    return training_systems()[: arguments.systems or None]


def start_weights(arguments: PPOArguments) -> dict[str, Any] | None:
    """The arrays to start from, their scores divided by the temperature; None: start from nothing."""
    if arguments.start == "none":
        return None
    shipped = arguments.start == "shipped"
    found = checkpoint.load_shipped("batch") if shipped else checkpoint.load(arguments.start)
    return {name: array / arguments.temperature if name in OUTPUTS else array for name, array in found.arrays.items()}


def make_learner(arguments: PPOArguments, env: ManySystems) -> OnPolicyAlgorithm:
    """PPO or MaskablePPO on ``env``, with the weights to start from."""
    start = start_weights(arguments)
    hidden = arguments.hidden if start is None else len(start["bias"])
    masked = arguments.algorithm == "maskable"
    about_policy = {"max_batch": select_systems(arguments)[0].max_batch, "hidden": hidden}
    policy: Any = MaskableSchedulerPolicy if masked else SchedulerPolicy
    assert not masked or issubclass(policy, MaskableActorCriticPolicy)
    model: OnPolicyAlgorithm = (MaskablePPO if masked else PPO)(
        policy,
        env,
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
    """Train; returns the exit code."""
    return run_guarded(PROGRAM, train, argv)


def train(argv: Sequence[str]) -> int:
    """Train as the arguments ``argv`` say; returns the exit code."""
    arguments, resume = parse_arguments(argv)
    folder = Path(arguments.out)
    torch.set_num_threads(arguments.threads)
    systems = select_systems(arguments)
    if (folder / "config.json").exists() and not resume:
        refuse(PROGRAM, f"{folder} holds a run: give --resume, or another --out.")
    try:
        check_folder(folder, "--out")
        max_bins = max(system.bins for system in systems)
        env = make_many_systems(systems, arguments.lanes, arguments.requests, max_bins, arguments.seed)
        model = make_learner(arguments, env)
        make_folder(folder)
        if not resume:
            document = describe_run(arguments, " ".join(["python train/ppo.py", *argv]))
            write_text(folder / "config.json", json.dumps(document, indent=1) + "\n")
        document = read_json(folder / "config.json")
        model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
        runs = make_runs(systems, range(arguments.evaluation_seeds), arguments.evaluation_requests)
        callback = TrainingCallback(folder, document, runs, arguments)
        if resume:
            restore(model, callback, folder)
    except ValueError as error:
        refuse(PROGRAM, str(error))
    try:
        left = arguments.steps - model.num_timesteps
        if left > 0:
            model.learn(left, callback=callback, reset_num_timesteps=not resume)
        callback.finish()
    except (KeyboardInterrupt, SystemError) as error:
        if not was_interrupted(error):
            raise
        say(f"{PROGRAM}: interrupted; --resume --unpickle continues from the last saved state")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    run_and_exit(main)
