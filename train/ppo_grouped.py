"""PPO for the network of the engine `batch`, on groups of compiled runs: ``python train/ppo_grouped.py --out runs/a``.

Every iteration plays groups of compiled runs.  The runs of a group have the same arrivals and draw their own actions;
what a decision cost is compared with what the other runs of its group cost from the same instant on (an input-dependent
baseline: Mao et al., Variance reduction for reinforcement learning in input-driven environments, ICLR 2019), through a
critic that is told this cost.  The cost is misses alone.  The start is a rule with random hidden units, or a
checkpoint.  The folder of ``--out`` holds config.json, curve.csv, state.pt (tensors and numbers, read without
unpickling code), and best.npz with best.json, which ``network:path=FOLDER/best`` runs in every experiment.
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

    need("ppo_grouped.py", "torch", "stable_baselines3", "sb3_contrib")

import dataclasses
import json
from collections.abc import Sequence

import torch

from llmsched.train.arguments import add_flags, add_resume, command_line, first_line, given_values
from llmsched.train.grouped.settings import GroupedSettings, check_settings
from llmsched.train.grouped.training import Training
from llmsched.train.systems import training_systems
from llmsched_env.commands.parser import OneLineParser
from llmsched_env.commands.process import INTERRUPTED, run_and_exit, run_guarded, was_interrupted
from llmsched_env.commands.terminal import say
from llmsched_env.files.reading import CannotReadError, read_json
from llmsched_env.files.writing import check_folder, make_folder, write_text

PROGRAM = "ppo_grouped.py"


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit code."""
    return run_guarded(PROGRAM, train, argv)


def train(argv: Sequence[str]) -> int:
    """Train as the arguments ``argv`` say; returns the exit code."""
    parser = OneLineParser(prog=PROGRAM, description=first_line(__doc__), allow_abbrev=False)
    add_resume(parser)
    add_flags(parser, GroupedSettings)
    given = given_values(parser.read(argv))
    resume = given.pop("resume")
    settings = GroupedSettings(**given)
    folder = Path(settings.out)
    config = folder / "config.json"
    try:
        check_settings(settings)
        check_folder(folder, "--out")
        if config.exists() != resume:
            there = "holds a run already: give --resume to continue it" if not resume else "holds no run to continue"
            raise ValueError(f"{folder} {there}, or give another --out.")
        if resume:
            settings = read_settings(config, settings.out)
        torch.set_num_threads(1)
        make_folder(folder)
        write_text(config, json.dumps(dataclasses.asdict(settings), indent=1) + "\n")
        training = Training(settings, training_systems()[: settings.systems or None], command_line(PROGRAM, settings))
        training.run()
    except (ValueError, TypeError) as error:
        parser.error(str(error))
    except (KeyboardInterrupt, SystemError) as error:
        if not was_interrupted(error):
            raise
        say(f"{PROGRAM}: interrupted; --resume continues from the last saved iteration")
        return INTERRUPTED
    return 0


def read_settings(config: Path, out: str) -> GroupedSettings:
    """The settings that a run was started with, and its folder now; ``ValueError`` names the file."""
    try:
        found = read_json(config)
        if not isinstance(found, dict):
            raise CannotReadError("it holds no JSON object")
        return check_settings(GroupedSettings(**{**found, "out": out}))
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split()).removesuffix(".")
        raise ValueError(f"{config}: {reason}: write it again, or begin a new run with another --out.") from None


if __name__ == "__main__":
    run_and_exit(main)
