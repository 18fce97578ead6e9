"""The backend ``transformers`` of eval/real.py: the schedulers of `rules` on one model, loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from llmsched.eval.calibration import settings
from llmsched.eval.cli.frame import Session
from llmsched.eval.reality.in_process.loop import ServingLoop
from llmsched.eval.reality.in_process.rules import SCHEDULERS, Rule, parse
from llmsched.eval.reality.serving.client import Served
from llmsched.eval.reality.serving.entrant import Entrant
from llmsched_env.commands.needs import need
from llmsched_env.requests import Requests

if TYPE_CHECKING:
    from llmsched.eval.reality.in_process.torch_model import Loaded

MODEL = "tiny"
POLICIES = ",".join(SCHEDULERS)


def entrants_in_process(program: str, session: Session, runs: Sequence[Requests]) -> list[Entrant]:
    """The schedulers that the options name, on their model; ``runs``: the requests that they will serve.

    ``ValueError`` in one line where an option is wrong or a request does not fit the model.
    """
    options = session.options
    if options.endpoint:
        raise ValueError("--endpoint does not go with --backend transformers, which has the model itself: drop one.")
    names = [name.strip() for name in (POLICIES if options.policies is None else options.policies).split(",")]
    made = [parse(name) for name in names]
    need(program, *settings.NEEDED)
    settings.fill_in(options, engine="eager")
    from llmsched.eval.reality.in_process.torch_model import Loaded  # needs torch

    options.model = options.model or MODEL
    loaded = Loaded(options)
    check_positions(options.model, loaded.model.positions, runs)
    return [
        Entrant(name, serve=server_of(loaded, make), facts={**loaded.facts, "scheduler": name})
        for name, make in zip(names, made, strict=True)
    ]


def check_positions(model: str, positions: int, runs: Sequence[Requests]) -> None:
    """``ValueError`` where a request has more tokens than the model has positions."""
    for requests in runs:
        both = requests.prompt_tokens + requests.output_tokens
        worst = int(both.argmax())
        if both[worst] > positions:
            raise ValueError(
                f"--model {model} has {positions:,} positions, and a request of {requests.prompt_tokens[worst]:,.0f} + "
                f"{requests.output_tokens[worst]:,.0f} tokens is in the workload: give shorter ones, or another model."
            )


def server_of(loaded: Loaded, make: Callable[[], Rule]) -> Callable[..., tuple[list[Served], list[str]]]:
    """What serves one run under a new scheduler of ``make``."""

    def serve(requests: Requests, seed: int, timeout_s: float) -> tuple[list[Served], list[str]]:
        """(rows, nothing besides) of one run."""
        loaded.model.clear()
        loop = ServingLoop(requests, make(), loaded.model, kv_tokens=loaded.kv_tokens, timeout_s=timeout_s, seed=seed)
        return loop.run(), []

    return serve
