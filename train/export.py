"""Export an agent of Stable-Baselines3 as a compiled policy: ``python train/export.py agent.zip --env ID --out NAME``.

Exported are the multi-layer perceptrons of PPO, A2C, MaskablePPO and DQN.  Nothing in the zip is unpickled.  ``--out
NAME`` gets NAME.npz and NAME.json, which ``--policies agent:path=NAME`` runs in every experiment, without torch.
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

    need("export.py", "torch")

import argparse
import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

from llmsched.policies.agent.checkpoint import ACTIVATIONS, Agent, Face, save
from llmsched.policies.agent.fit import ENVIRONMENTS, face_of_environment
from llmsched.train.arguments import first_line
from llmsched.train.sb3_scaling import Limits, fold, read_scaling
from llmsched.train.sb3_zip import Layers, SavedAgent, read_agent
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import run_and_exit, run_guarded
from llmsched_env.commands.terminal import show
from llmsched_env.files.reading import CannotReadError, json_of, read_bytes
from llmsched_env.files.writing import check_folder

PROGRAM = "export.py"


def make_parser() -> OneLineParser:
    """The arguments."""
    parser = OneLineParser(prog=PROGRAM, description=first_line(__doc__), allow_abbrev=False)
    parser.add_argument("file", metavar="FILE.zip", help="what model.save() of Stable-Baselines3 wrote")
    parser.add_argument("--env", required=True, metavar="ID", help=f"its environment: {' or '.join(ENVIRONMENTS)}")
    parser.add_argument(
        "--env-options",
        default="{}",
        metavar="JSON",
        help='the arguments that the environment was made with, as {"max_batch": 32, "action": "ladder"}',
    )
    parser.add_argument("--out", required=True, metavar="NAME", help="NAME.npz and NAME.json are written")
    parser.add_argument(
        "--activation", choices=ACTIVATIONS, help="the activation between layers, where the file does not say"
    )
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument(
        "--vec-normalize",
        metavar="FILE.pkl",
        help="what VecNormalize.save() wrote: its scaling of the observations becomes a part of the agent",
    )
    seen.add_argument(
        "--raw-observations",
        action="store_true",
        help="the agent saw observations as they are, although a file of VecNormalize lies beside FILE.zip",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export; returns the exit code."""
    return run_guarded(PROGRAM, export, argv)


def export(argv: Sequence[str]) -> int:
    """Export as the arguments ``argv`` say; returns the exit code."""
    arguments = make_parser().read(argv)
    path = Path(arguments.file).expanduser()
    try:
        options = _options(arguments.env_options)
        face = face_of_environment(arguments.env, **options)
        found = read_agent(path)
        _check_spaces(path, found, face, arguments.env)
        layers, limits = _with_scaling(path, found.layers, arguments)
        out = Path(arguments.out).expanduser()
        check_folder(out.parent, "--out")
        agent = save(
            out,
            face,
            layers,
            limits,
            activation=_activation(path, found, arguments.activation),
            kind=found.family.kind,
            masked=found.family.masked,
            algorithm=found.algorithm,
            source={
                "file": path.name,
                "sha256": hashlib.sha256(read_bytes(path)).hexdigest(),
                "env": arguments.env,
                "env_options": options,
            },
        )
    except ValueError as error:
        refuse(PROGRAM, str(error))
    show(report(agent, arguments.out, options))
    return 0


def _options(text: str) -> dict[str, Any]:
    try:
        found = json_of(text)
    except CannotReadError as error:
        raise ValueError(f"--env-options: {error}.") from None
    if not isinstance(found, dict):
        raise ValueError(f'--env-options {text[:40]!r} is no JSON object: give one like {{"max_batch": 32}}.')
    return found


def _with_scaling(path: Path, layers: Layers, arguments: argparse.Namespace) -> tuple[Layers, Limits | None]:
    """The layers for observations as the simulator has them, and where these are clipped.

    ``ValueError`` where VecNormalize may have changed the observations and nothing is said of it: files beside the zip
    tell, the zip itself does not.
    """
    if arguments.vec_normalize is not None:
        scaling = read_scaling(Path(arguments.vec_normalize).expanduser())
        return (layers, None) if scaling is None else fold(layers, scaling)
    beside = [*path.parent.glob("*vec*normalize*.pkl"), *path.parent.glob("*/vec*normalize*.pkl")]
    if beside and not arguments.raw_observations:
        raise ValueError(
            f"{path}: {beside[0].name} lies beside it, so observations may have been normalised, which the zip does "
            f"not say: give --vec-normalize {beside[0]}, or --raw-observations if this agent saw them as they are."
        )
    return layers, None


def _check_spaces(path: Path, found: SavedAgent, face: Face, env: str) -> None:
    """``ValueError`` with both where the agent's spaces are not those of the environment."""
    inputs, outputs = found.layers[0][0].shape[1], len(found.layers[-1][1])
    parts = found.action_parts or face.parts
    if (inputs, outputs, parts) != (face.inputs, sum(face.parts), face.parts):
        theirs = found.action_parts or outputs
        raise ValueError(
            f"{path}: trained on observations of {inputs} entries and actions {theirs}, where {env} with these "
            f"--env-options has {face.inputs} and {face.parts}: give the arguments that it was trained with."
        )


def _activation(path: Path, found: SavedAgent, given: str | None) -> str:
    if found.activation is None:
        if given is None:
            raise ValueError(f"{path}: it does not say its activation: give --activation {' or '.join(ACTIVATIONS)}.")
        return given
    if given not in (None, found.activation):
        raise ValueError(f"{path}: its activation is {found.activation}: drop --activation {given}.")
    return found.activation


def report(agent: Agent, out: str, options: dict[str, Any]) -> str:
    """What was exported, and the command that enters it."""
    limits, about = agent.face.limits, agent.about
    widths = " - ".join(str(width) for width in agent.layers)
    words = ["python", "eval/compare.py", "--engine", agent.face.engine, "--max-batch", str(limits.max_batch)]
    words += ["--prefix-cache", "on"] if limits.cached else []
    entry = f"agent:path={out}" + (f":overdue={options.get('overdue_factor')}" if limits.overdue else "")
    command = shlex.join([*words, "--policies", f"multibin,{entry}"])
    return (
        f"{out}.npz, {out}.json: {about['algorithm']}, {widths} ({about['activation']}), action {agent.face.action}, "
        f"at most {limits.max_bins} bins\n{command}"
    )


if __name__ == "__main__":
    run_and_exit(main)
